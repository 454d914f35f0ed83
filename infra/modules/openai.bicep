// An Azure OpenAI account of our own, with its deployments. Keys are switched off: tokens only.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param deployments { name: string, model: string, version: string, sku: string, capacity: int }[]
param isPrivate bool

resource account 'Microsoft.CognitiveServices/accounts@2025-12-01' = {
  name: name
  location: location
  tags: tags
  kind: 'OpenAI'
  sku: { name: 'S0' }
  properties: {
    customSubDomainName: name
    disableLocalAuth: true
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    networkAcls: { defaultAction: isPrivate ? 'Deny' : 'Allow' }
  }
}

// One after the other: an account takes one change at a time.
@batchSize(1)
resource models 'Microsoft.CognitiveServices/accounts/deployments@2025-12-01' = [for each in deployments: {
  parent: account
  name: each.name
  sku: { name: each.sku, capacity: each.capacity }
  properties: {
    model: { format: 'OpenAI', name: each.model, version: each.version }
    versionUpgradeOption: 'NoAutoUpgrade'
  }
}]
