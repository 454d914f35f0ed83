// Holds the gateway's master key and other vendors' keys. The template makes no secret: none has to be handed to it.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param isPrivate bool
param operators types.operator[]

resource vault 'Microsoft.KeyVault/vaults@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    tenantId: subscription().tenantId
    sku: { family: 'A', name: 'standard' }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 7
    enablePurgeProtection: true
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: isPrivate ? 'Deny' : 'Allow', bypass: 'None' }
  }
}

var keyVaultSecretsOfficer = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'b86a8fe4-44ce-4948-aee5-eccb2c155cd7')

resource setSecrets 'Microsoft.Authorization/roleAssignments@2022-04-01' = [for each in operators: {
  scope: vault
  name: guid(vault.id, each.principalId, keyVaultSecretsOfficer)
  properties: {
    roleDefinitionId: keyVaultSecretsOfficer
    principalId: each.principalId
    principalType: each.principalType
  }
}]
