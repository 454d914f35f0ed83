using '../main.bicep'

import * as usual from 'usual.bicep'

// In a company's network: a policy enters the names of private endpoints, and an account is shared. Across zones.
param network = 'backend'
param existingNetwork = {
  vnet: '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke'
  appSubnet: '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke/subnets/video'
  endpointSubnet: '/subscriptions/00000000-0000-0000-0000-000000000002/resourceGroups/rg-network/providers/Microsoft.Network/virtualNetworks/vnet-spoke/subnets/endpoints'
  dnsZones: []
}
param resilience = 'zone'
param newOpenAi = []
param existingOpenAi = [
  {
    setting: 'AZURE_OPENAI_API_BASE'
    account: 'oai-shared'
    group: 'rg-shared'
    subscription: '00000000-0000-0000-0000-000000000002'
    endpoint: 'https://oai-shared.openai.azure.com'
    role: usual.role
    privateEndpoint: true
  }
]
param tags = { costCenter: '1234', owner: 'video-team' }

param name = 'landing-zone'
param location = usual.location
param scale = usual.scale
param retention = usual.retention
param settings = usual.settings
param durable = usual.durable
param monitoring = usual.monitoring
param operators = []
param pipelines = usual.pipelines
param finishedVideoEvents = false
param contentSafety = false
