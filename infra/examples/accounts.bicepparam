using '../main.bicep'

import * as usual from 'usual.bicep'

// Two accounts that are made, in two regions, and one that exists in another group.
param newOpenAi = [
  { setting: 'AZURE_OPENAI_API_BASE', location: 'eastus2', role: usual.role, deployments: [] }
  {
    setting: 'AZURE_OPENAI_API_BASE_2'
    location: 'swedencentral'
    role: 'Cognitive Services User'
    deployments: [{ name: 'sora-2', model: 'sora-2', version: '2025-12-08', sku: 'GlobalStandard', capacity: 1 }]
  }
]
param existingOpenAi = [
  {
    setting: 'AZURE_OPENAI_API_BASE_3'
    account: 'oai-shared'
    group: 'rg-shared'
    subscription: '00000000-0000-0000-0000-000000000002'
    endpoint: 'https://oai-shared.openai.azure.com'
    role: usual.role
    privateEndpoint: false
  }
]

param name = 'accounts'
param location = usual.location
param tags = usual.tags
param scale = usual.scale
param resilience = usual.resilience
param retention = usual.retention
param settings = usual.settings
param network = usual.network
param durable = usual.durable
param monitoring = usual.monitoring
param operators = []
param pipelines = usual.pipelines
param finishedVideoEvents = false
param contentSafety = false
