// One private endpoint, and its name in a zone.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param subnetId string
param targetId string
param groupId string

@description('The zone that its name belongs to.')
param zone string

@description('Zones to enter it in, by their ids: none where a policy does that, null for those that are made here.')
param dnsZones string[]?

var zoneId = dnsZones == null
  ? resourceId('Microsoft.Network/privateDnsZones', zone)
  : empty(dnsZones) ? '' : (first(filter(dnsZones!, id => endsWith(id, '/${zone}'))) ?? fail('existingNetwork.dnsZones lacks ${zone}'))

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

  resource names 'privateDnsZoneGroups' = if (dnsZones == null || !empty(dnsZones)) {
    name: 'default'
    properties: {
      privateDnsZoneConfigs: [
        { name: groupId, properties: { privateDnsZoneId: zoneId } }
      ]
    }
  }
}
