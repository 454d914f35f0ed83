// Durable Task Scheduler: keeps orchestrations instead of storage.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param taskHub string
param ipAllowlist string[]
param identityId string
param principalId string

resource scheduler 'Microsoft.DurableTask/schedulers@2025-11-01' = {
  name: name
  location: location
  tags: tags
  properties: { sku: { name: 'Consumption' }, ipAllowlist: ipAllowlist }
}

resource hub 'Microsoft.DurableTask/schedulers/taskHubs@2025-11-01' = {
  parent: scheduler
  name: taskHub
}

var durableTaskDataContributor = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '0ad04412-c4d5-4796-b79c-f76d14c8d402')

resource orchestrate 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: hub
  name: guid(hub.id, identityId, durableTaskDataContributor)
  properties: { roleDefinitionId: durableTaskDataContributor, principalId: principalId, principalType: 'ServicePrincipal' }
}

output endpoint string = scheduler.properties.endpoint
