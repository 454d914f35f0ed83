// A private way to everything behind the app.
param name string
param location string
param tags object
param subnetId string
param storageId string
param vaultId string
param openAiIds string[]

// Durable needs all three kinds of storage.
module storage 'endpoint.bicep' = [for each in ['blob', 'queue', 'table']: {
  params: {
    name: 'pe-${name}-${each}'
    location: location
    tags: tags
    subnetId: subnetId
    targetId: storageId
    groupId: each
    zoneName: 'privatelink.${each}.${environment().suffixes.storage}'
  }
}]

module vault 'endpoint.bicep' = {
  params: {
    name: 'pe-${name}-vault'
    location: location
    tags: tags
    subnetId: subnetId
    targetId: vaultId
    groupId: 'vault'
    zoneName: 'privatelink.vaultcore.azure.net'
  }
}

module openAi 'endpoint.bicep' = [for (each, i) in openAiIds: {
  params: {
    name: 'pe-${name}-openai-${i}'
    location: location
    tags: tags
    subnetId: subnetId
    targetId: each
    groupId: 'account'
    zoneName: 'privatelink.openai.azure.com'
  }
}]
