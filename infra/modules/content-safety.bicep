// An account that guardrails of config.yaml ask about prompts and images. It is made only where it is asked for.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param identityId string
param principalId string
param isPrivate bool

resource account 'Microsoft.CognitiveServices/accounts@2025-12-01' = {
  name: name
  location: location
  tags: tags
  kind: 'ContentSafety'
  sku: { name: 'S0' }
  properties: {
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: isPrivate ? 'Deny' : 'Allow' }
  }
}

var cognitiveServicesUser = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'a97b65f3-24c7-4388-baec-2e87135dc908')

resource screen 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: account
  name: guid(account.id, identityId, cognitiveServicesUser)
  properties: { roleDefinitionId: cognitiveServicesUser, principalId: principalId, principalType: 'ServicePrincipal' }
}
