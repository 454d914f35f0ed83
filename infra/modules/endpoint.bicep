// One private endpoint, and its name in a zone.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param subnetId string
param targetId string
param groupId string

@description('The zone that its name is entered in; empty where a policy does that.')
param zoneId string

resource endpoint 'Microsoft.Network/privateEndpoints@2025-07-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    subnet: { id: subnetId }
    privateLinkServiceConnections: [
      { name: groupId, properties: { privateLinkServiceId: targetId, groupIds: [groupId] } }
    ]
  }

  resource names 'privateDnsZoneGroups' = if (!empty(zoneId)) {
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        { name: groupId, properties: { privateDnsZoneId: zoneId } }
      ]
    }
  }
}
