// One subnet for the app's way out, one for private endpoints, in a network of our own or in one that exists; and the zones in which
// names lead to the endpoints.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param existingNetwork types.existingNetwork?

@description('The zones to make; none where names are entered in others.')
param zoneNames string[]

resource vnet 'Microsoft.Network/virtualNetworks@2025-07-01' = if (existingNetwork == null) {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: { addressPrefixes: ['10.0.0.0/16'] }
    subnets: [
      {
        name: 'endpoints'
        properties: { addressPrefix: '10.0.1.0/24', privateEndpointNetworkPolicies: 'Disabled' }
      }
      {
        name: 'app'
        properties: {
          addressPrefix: '10.0.2.0/24'
          delegations: [
            { name: 'flex', properties: { serviceName: 'Microsoft.App/environments' } }
          ]
        }
      }
    ]
  }
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [for each in zoneNames: {
  name: each
  location: 'global'
  tags: tags
}]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (each, i) in zoneNames: {
  parent: zones[i]
  name: name
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    // Names that are not in the zone are looked up in public: this zone must not hide other people's.
    resolutionPolicy: 'NxDomainRedirect'
    virtualNetwork: { id: existingNetwork.?vnet ?? vnet!.id }
  }
}]
