// Lets the app use one Azure OpenAI account, in whichever group that lies.
param account string
param identityId string
param principalId string

resource openAi 'Microsoft.CognitiveServices/accounts@2025-12-01' existing = {
  name: account
}

var cognitiveServicesOpenAiUser = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '5e0bd9bd-7b93-4f28-af87-19fc36ad61bd')

resource use 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: openAi
  name: guid(openAi.id, identityId, cognitiveServicesOpenAiUser)
  properties: {
    roleDefinitionId: cognitiveServicesOpenAiUser
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
