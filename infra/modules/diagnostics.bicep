// Who read, wrote or deleted a blob; who used a secret.
param workspaceId string
param storageName string
param vaultName string

resource storage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageName

  resource blobs 'blobServices' existing = {
    name: 'default'
  }
}

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' existing = {
  name: vaultName
}

// The only version with these properties is a preview from 2021; the stable one, from 2016, has no log categories of storage.
#disable-next-line use-recent-api-versions
resource blobAccess 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: storage::blobs
  name: 'access'
  properties: {
    workspaceId: workspaceId
    logs: [for each in ['StorageRead', 'StorageWrite', 'StorageDelete']: { category: each, enabled: true }]
  }
}

#disable-next-line use-recent-api-versions
resource secretAccess 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  scope: vault
  name: 'access'
  properties: {
    workspaceId: workspaceId
    logs: [{ category: 'AuditEvent', enabled: true }]
  }
}
