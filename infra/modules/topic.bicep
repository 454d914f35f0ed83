// Tells pipelines what happens to videos, as CloudEvents. The app sends with its identity: no key works.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param identityId string
param principalId string
param isPrivate bool

resource topic 'Microsoft.EventGrid/topics@2025-02-15' = {
  name: name
  location: location
  tags: tags
  properties: {
    inputSchema: 'CloudEventSchemaV1_0'
    disableLocalAuth: true
    minimumTlsVersionAllowed: '1.2'
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
  }
}

var eventGridDataSender = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'd5a91429-5739-47e2-a06b-3470a27159e7')

resource send 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: topic
  name: guid(topic.id, identityId, eventGridDataSender)
  properties: { roleDefinitionId: eventGridDataSender, principalId: principalId, principalType: 'ServicePrincipal' }
}

output endpoint string = topic.properties.endpoint
