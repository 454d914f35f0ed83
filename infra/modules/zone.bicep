// A private DNS zone for the names of private endpoints, linked to the network that looks them up.
import * as types from '../types.bicep'

param name string
param linkName string
param tags types.tags
param networkId string

resource zone 'Microsoft.Network/privateDnsZones@2024-06-01' = {
  name: name
  location: 'global'
  tags: tags

  resource link 'virtualNetworkLinks' = {
    name: linkName
    location: 'global'
    tags: tags
    properties: {
      registrationEnabled: false
      // Names that are not in the zone are looked up in public: this zone must not hide other people's.
      resolutionPolicy: 'NxDomainRedirect'
      virtualNetwork: { id: networkId }
    }
  }
}
