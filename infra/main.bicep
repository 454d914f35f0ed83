// The gateway in a subscription: makes the resource group and fills it. People who may not make one use group.bicep.
targetScope = 'subscription'

import * as types from 'types.bicep'

@minLength(2)
@maxLength(16)
@description('What this gateway is called: the group is rg-<name>. Lower-case letters, digits and hyphens.')
param name string

@description('The region of everything except, perhaps, the Azure OpenAI accounts.')
param location string

@description('Tags for every resource.')
param tags types.tags

param scale types.scale
param resilience types.resilience
param retention types.retention
param newOpenAi types.newOpenAi[]
param existingOpenAi types.existingOpenAi[]
param settings types.settings
param network types.network
param existingNetwork types.existingNetwork?
param durable types.durable
param monitoring types.monitoring
param budget types.budget?
param operators types.operator[]
param pipelines types.pipelines

@description('Put an event in the queue `finished-videos` for every video that was saved. Storage itself publishes them.')
param finishedVideoEvents bool

@description('Make a Content Safety account, for guardrails in config.yaml.')
param contentSafety bool

resource group 'Microsoft.Resources/resourceGroups@2025-04-01' = {
  name: 'rg-${name}'
  location: location
  tags: union(tags, { 'azd-env-name': name })
}

module gateway 'group.bicep' = {
  scope: group
  params: {
    name: name
    location: location
    tags: tags
    scale: scale
    resilience: resilience
    retention: retention
    newOpenAi: newOpenAi
    existingOpenAi: existingOpenAi
    settings: settings
    network: network
    existingNetwork: existingNetwork
    durable: durable
    monitoring: monitoring
    budget: budget
    operators: operators
    pipelines: pipelines
    finishedVideoEvents: finishedVideoEvents
    contentSafety: contentSafety
  }
}

output AZURE_RESOURCE_GROUP string = group.name
output GATEWAY_APP string = gateway.outputs.GATEWAY_APP
output GATEWAY_URL string = gateway.outputs.GATEWAY_URL
output GATEWAY_VAULT string = gateway.outputs.GATEWAY_VAULT
output GATEWAY_STORAGE string = gateway.outputs.GATEWAY_STORAGE
