// What the app may do with the gateway's own parts: one role per service it uses, each on one resource. An assignment
// is named by the identity's id, which is known from the start; whose principal that is, Azure tells once the identity is made.
param identityId string
param principalId string
param storageName string
param vaultName string
param insightsName string

resource storage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageName
}

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: vaultName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

// The host asks for Owner, not Contributor: it sets leases on its own blobs. Signing download URLs (the user delegation key) is part
// of the role, so that Storage Blob Delegator is not needed.
var storageBlobDataOwner = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'b7e6dc6d-f1e8-4753-8033-0f276bb0955b')
// Durable's control and work-item queues.
var storageQueueDataContributor = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '974c5e8b-45b9-4653-ba55-5f855dd0fb88')
// The gateway's tables, and Durable's history.
var storageTableDataContributor = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3')
var keyVaultSecretsUser = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '4633458b-17de-408a-b874-0445c86b69e6')
var monitoringMetricsPublisher = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', '3913510d-42f4-4e42-8a64-420c390055eb')

resource blobs 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, identityId, storageBlobDataOwner)
  properties: { roleDefinitionId: storageBlobDataOwner, principalId: principalId, principalType: 'ServicePrincipal' }
}

resource queues 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, identityId, storageQueueDataContributor)
  properties: { roleDefinitionId: storageQueueDataContributor, principalId: principalId, principalType: 'ServicePrincipal' }
}

resource tables 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: storage
  name: guid(storage.id, identityId, storageTableDataContributor)
  properties: { roleDefinitionId: storageTableDataContributor, principalId: principalId, principalType: 'ServicePrincipal' }
}

resource secrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: vault
  name: guid(vault.id, identityId, keyVaultSecretsUser)
  properties: { roleDefinitionId: keyVaultSecretsUser, principalId: principalId, principalType: 'ServicePrincipal' }
}

resource publish 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: insights
  name: guid(insights.id, identityId, monitoringMetricsPublisher)
  properties: { roleDefinitionId: monitoringMetricsPublisher, principalId: principalId, principalType: 'ServicePrincipal' }
}
