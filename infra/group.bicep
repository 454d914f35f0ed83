// The gateway in a resource group that exists: the same parameters as main.bicep, which calls this.
targetScope = 'resourceGroup'

import * as types from 'types.bicep'

@minLength(2)
@maxLength(16)
param name string
param location string
param tags object
param scale types.scale
param retention types.retention
param newOpenAi types.newOpenAi[]
param existingOpenAi types.existingOpenAi[]
param settings types.settings
param network types.network
param existingNetwork types.existingNetwork?
param durable types.durable
param monitoring types.monitoring
param budget types.budget?
param operators types.operator[]
param pipelines types.pipelines
param finishedVideoEvents bool
param contentSafety bool

var token = uniqueString(resourceGroup().id, name)
var allTags = union(tags, { 'azd-env-name': name })
var isPrivate = network != 'public'
var taskHub = 'videogateway'

// Known before anything exists, so that settings need not wait for outputs of a loop. The setting tells accounts of one region apart.
var accountNames = [for each in newOpenAi: 'oai-${name}-${uniqueString(resourceGroup().id, name, each.setting)}']
var upstreams = union(
  toObject(range(0, length(newOpenAi)), i => newOpenAi[i].setting, i => 'https://${accountNames[i]}.openai.azure.com'),
  toObject(existingOpenAi, each => each.setting, each => each.endpoint)
)

module identity 'modules/identity.bicep' = {
  params: { name: 'id-${name}-${token}', location: location, tags: allTags }
}

module storage 'modules/storage.bicep' = {
  params: {
    name: 'st${token}'
    location: location
    tags: allTags
    retention: retention
    isPrivate: isPrivate
    trustAzureServices: finishedVideoEvents
    takesRequests: pipelines.requests
  }
}

module vault 'modules/vault.bicep' = {
  params: { name: 'kv-${token}', location: location, tags: allTags, isPrivate: isPrivate, operators: operators }
}

module telemetry 'modules/telemetry.bicep' = {
  params: { name: '${name}-${token}', location: location, tags: allTags, monitoring: monitoring }
}

module openAi 'modules/openai.bicep' = [for (each, i) in newOpenAi: {
  params: {
    name: accountNames[i]
    location: each.location
    tags: allTags
    deployments: each.deployments
    isPrivate: isPrivate
  }
}]

module scheduler 'modules/scheduler.bicep' = if (durable.backend == 'scheduler') {
  params: {
    name: 'dts-${name}-${token}'
    location: location
    tags: allTags
    taskHub: taskHub
    ipAllowlist: durable.schedulerIpAllowlist
    principalId: identity.outputs.principalId
  }
}

module roles 'modules/roles.bicep' = {
  params: {
    principalId: identity.outputs.principalId
    storageName: storage.outputs.name
    vaultName: vault.outputs.name
    insightsName: telemetry.outputs.insightsName
  }
}

module useOfNew 'modules/openai-role.bicep' = [for (each, i) in newOpenAi: {
  params: { account: openAi[i].outputs.name, principalId: identity.outputs.principalId }
}]

module useOfExisting 'modules/openai-role.bicep' = [for each in existingOpenAi: {
  scope: resourceGroup(each.?subscription ?? subscription().subscriptionId, each.group)
  params: { account: each.account, principalId: identity.outputs.principalId }
}]

module net 'modules/network.bicep' = if (isPrivate) {
  params: { name: 'vnet-${name}-${token}', location: location, tags: allTags, existingNetwork: existingNetwork }
}

module endpoints 'modules/endpoints.bicep' = if (isPrivate) {
  params: {
    name: name
    location: location
    tags: allTags
    subnetId: net!.outputs.endpointSubnetId
    storageId: storage.outputs.id
    vaultId: vault.outputs.id
    openAiIds: [for i in range(0, length(newOpenAi)): openAi[i].outputs.id]
  }
}

module app 'modules/app.bicep' = {
  params: {
    name: 'func-${name}-${token}'
    location: location
    tags: allTags
    scale: scale
    identityId: identity.outputs.id
    packageContainer: storage.outputs.packageContainer
    subnetId: isPrivate ? net!.outputs.appSubnetId : ''
    isPublic: network != 'private'
  }
  // A first start without its roles, or without a way to its storage, fails.
  dependsOn: [roles, useOfNew, useOfExisting, endpoints]
}

module front 'modules/endpoint.bicep' = if (network == 'private') {
  params: {
    name: 'pe-${name}-app'
    location: location
    tags: allTags
    subnetId: net!.outputs.endpointSubnetId
    targetId: app.outputs.id
    groupId: 'sites'
    zoneName: 'privatelink.azurewebsites.net'
  }
}

module appSettings 'modules/settings.bicep' = {
  params: {
    appName: app.outputs.name
    storageName: storage.outputs.name
    insightsName: telemetry.outputs.insightsName
    vaultName: vault.outputs.name
    clientId: identity.outputs.clientId
    taskHub: taskHub
    schedulerEndpoint: durable.backend == 'scheduler' ? scheduler!.outputs.endpoint : ''
    safetyEndpoint: contentSafety ? safety!.outputs.endpoint : ''
    takesRequests: pipelines.requests
    settings: settings
    upstreams: upstreams
  }
}

module diagnostics 'modules/diagnostics.bicep' = if (monitoring.auditLogs) {
  params: {
    workspaceId: telemetry.outputs.workspaceId
    storageName: storage.outputs.name
    vaultName: vault.outputs.name
  }
}

module alerts 'modules/alerts.bicep' = if (!empty(monitoring.alertEmails)) {
  params: {
    name: name
    location: location
    tags: allTags
    workspaceId: telemetry.outputs.workspaceId
    storageId: storage.outputs.id
    emails: monitoring.alertEmails
  }
}

module spending 'modules/budget.bicep' = if (budget != null) {
  params: { name: 'budget-${name}', budget: budget! }
}

module events 'modules/events.bicep' = if (finishedVideoEvents) {
  params: {
    name: 'evgt-${name}-${token}'
    location: location
    tags: allTags
    storageName: storage.outputs.name
  }
}

module senders 'modules/events-role.bicep' = [for each in pipelines.senders: if (pipelines.requests) {
  params: { storageName: storage.outputs.name, queueName: 'video-requests', principalId: each }
}]

module safety 'modules/content-safety.bicep' = if (contentSafety) {
  params: {
    name: 'cs-${name}-${token}'
    location: location
    tags: allTags
    principalId: identity.outputs.principalId
    isPrivate: isPrivate
  }
}

module safetyWay 'modules/endpoint.bicep' = if (contentSafety && isPrivate) {
  params: {
    name: 'pe-${name}-safety'
    location: location
    tags: allTags
    subnetId: net!.outputs.endpointSubnetId
    targetId: safety!.outputs.id
    groupId: 'account'
    zoneName: 'privatelink.cognitiveservices.azure.com'
  }
}

output AZURE_RESOURCE_GROUP string = resourceGroup().name
output GATEWAY_APP string = app.outputs.name
output GATEWAY_URL string = app.outputs.url
output GATEWAY_VAULT string = vault.outputs.name
output GATEWAY_STORAGE string = storage.outputs.name
