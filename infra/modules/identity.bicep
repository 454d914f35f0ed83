// Who the app is. Made first, so that its roles exist before it starts.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
  tags: tags
}

output clientId string = identity.properties.clientId
output principalId string = identity.properties.principalId
