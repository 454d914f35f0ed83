// Lets the app use one Azure OpenAI account, in whichever group that lies.
import * as types from '../types.bicep'

param account string
param role types.upstreamRole
param identityId string
param principalId string

resource openAi 'Microsoft.CognitiveServices/accounts@2025-12-01' existing = {
  name: account
}

var cognitiveServicesOpenAiUser = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd')
var cognitiveServicesUser = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'a97b65f3-24c7-4388-baec-2e87135dc908')
var chosen = role == 'Cognitive Services User' ? cognitiveServicesUser : cognitiveServicesOpenAiUser

resource use 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: openAi
  name: guid(openAi.id, identityId, chosen)
  properties: {
    roleDefinitionId: chosen
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
