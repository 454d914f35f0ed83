using '../main.bicep'

import * as usual from 'usual.bicep'

// In a company's network, with the names of private endpoints in zones that are kept in one place.
param network = 'private'
param existingNetwork = {
  vnet: '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke'
  appSubnet: '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke/subnets/video'
  endpointSubnet: '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke/subnets/endpoints'
  dnsZones: [
    '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-dns/providers/Microsoft.Network/privateDnsZones/privatelink.blob.core.windows.net'
    '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-dns/providers/Microsoft.Network/privateDnsZones/privatelink.queue.core.windows.net'
    '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-dns/providers/Microsoft.Network/privateDnsZones/privatelink.table.core.windows.net'
    '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-dns/providers/Microsoft.Network/privateDnsZones/privatelink.vaultcore.azure.net'
    '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-dns/providers/Microsoft.Network/privateDnsZones/privatelink.openai.azure.com'
    '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-dns/providers/Microsoft.Network/privateDnsZones/privatelink.azurewebsites.net'
  ]
}

param name = 'kept-zones'
param location = usual.location
param tags = usual.tags
param scale = usual.scale
param resilience = usual.resilience
param retention = usual.retention
param newOpenAi = usual.newOpenAi
param existingOpenAi = []
param settings = usual.settings
param durable = usual.durable
param monitoring = usual.monitoring
param operators = []
param pipelines = usual.pipelines
param finishedVideoEvents = false
param contentSafety = false
