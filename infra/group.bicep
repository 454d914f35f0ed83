// The gateway in a resource group that exists: the same parameters as main.bicep, which calls this.
targetScope = 'resourceGroup'

import * as types from 'types.bicep'

@minLength(2)
@maxLength(16)
param name string
param location string
param tags types.tags
param scale types.scale
param resilience types.resilience
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

var allTags = union(tags, { 'azd-env-name': name })
var isPrivate = network != 'public'
var taskHub = 'videogateway'
var packages = 'app-package'

// All names are known before anything is made, and with them ids and addresses. So a preview shows everything: neither what-if nor a
// snapshot knows what another module gives back. What only Azure can tell comes from outputs: who the identity is, and where the
// scheduler and a topic answer.
var token = uniqueString(resourceGroup().id, name)
var names = {
  app: 'func-${name}-${token}'
  identity: 'id-${name}-${token}'
  insights: 'appi-${name}-${token}'
  network: 'vnet-${name}-${token}'
  safety: 'cs-${name}-${token}'
  scheduler: 'dts-${name}-${token}'
  storage: 'st${token}'
  systemTopic: 'evgt-${name}-${token}'
  topic: 'topic-${name}-${token}'
  vault: 'kv-${token}'
  workspace: 'log-${name}-${token}'
}
var ids = {
  app: resourceId('Microsoft.Web/sites', names.app)
  identity: resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', names.identity)
  safety: resourceId('Microsoft.CognitiveServices/accounts', names.safety)
  storage: resourceId('Microsoft.Storage/storageAccounts', names.storage)
  topic: resourceId('Microsoft.EventGrid/topics', names.topic)
  vault: resourceId('Microsoft.KeyVault/vaults', names.vault)
  workspace: resourceId('Microsoft.OperationalInsights/workspaces', names.workspace)
}

var networkId = existingNetwork.?vnet ?? resourceId('Microsoft.Network/virtualNetworks', names.network)
var subnets = {
  app: existingNetwork.?appSubnet ?? resourceId('Microsoft.Network/virtualNetworks/subnets', names.network, 'app')
  endpoints: existingNetwork.?endpointSubnet ?? resourceId('Microsoft.Network/virtualNetworks/subnets', names.network, 'endpoints')
}
// The setting tells accounts of one region apart.
var accountNames = [for each in newOpenAi: 'oai-${name}-${uniqueString(resourceGroup().id, name, each.setting)}']
var upstreams = union(
  toObject(range(0, length(newOpenAi)), i => newOpenAi[i].setting, i => 'https://${accountNames[i]}.openai.azure.com'),
  toObject(existingOpenAi, each => each.setting, each => each.endpoint)
)

// What is reached through private endpoints: what lies behind the app, and the app's front. Each has its id, the part of it that is
// meant, and the zone of its name. Loops go by keys, because a snapshot belongs to no cloud and cannot tell the zones of storage.
var zones = {
  app: 'privatelink.azurewebsites.net'
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  openAi: 'privatelink.openai.azure.com'
  queue: 'privatelink.queue.${environment().suffixes.storage}'
  safety: 'privatelink.cognitiveservices.azure.com'
  table: 'privatelink.table.${environment().suffixes.storage}'
  topic: 'privatelink.eventgrid.azure.net'
  vault: 'privatelink.vaultcore.azure.net'
}
var openAiIds = concat(
  map(accountNames, each => resourceId('Microsoft.CognitiveServices/accounts', each)),
  map(
    filter(existingOpenAi, each => each.privateEndpoint),
    each => resourceId(each.?subscription ?? subscription().subscriptionId, each.group, 'Microsoft.CognitiveServices/accounts', each.account)
  )
)
var behind = network == 'public'
  ? []
  : concat(
      map(['blob', 'queue', 'table'], kind => { name: kind, targetId: ids.storage, groupId: kind, zone: kind }),
      [{ name: 'vault', targetId: ids.vault, groupId: 'vault', zone: 'vault' }],
      map(openAiIds, id => { name: 'openai-${uniqueString(id)}', targetId: id, groupId: 'account', zone: 'openAi' }),
      contentSafety ? [{ name: 'safety', targetId: ids.safety, groupId: 'account', zone: 'safety' }] : [],
      pipelines.eventTopic ? [{ name: 'topic', targetId: ids.topic, groupId: 'topic', zone: 'topic' }] : []
    )
var front = network == 'private' ? [{ name: 'app', targetId: ids.app, groupId: 'sites', zone: 'app' }] : []

var ownZones = existingNetwork.?dnsZones == null ? union([], map(concat(behind, front), way => way.zone)) : []

module identity 'modules/identity.bicep' = {
  params: { name: names.identity, location: location, tags: allTags }
}

module storage 'modules/storage.bicep' = {
  params: {
    name: names.storage
    location: location
    tags: allTags
    retention: retention
    resilience: resilience
    isPrivate: isPrivate
    trustAzureServices: finishedVideoEvents
    takesRequests: pipelines.requests
    tellsEvents: pipelines.eventQueue
    packages: packages
  }
}

module vault 'modules/vault.bicep' = {
  params: { name: names.vault, location: location, tags: allTags, isPrivate: isPrivate, operators: operators }
}

module telemetry 'modules/telemetry.bicep' = {
  params: {
    workspaceName: names.workspace
    insightsName: names.insights
    location: location
    tags: allTags
    monitoring: monitoring
  }
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
    name: names.scheduler
    location: location
    tags: allTags
    taskHub: taskHub
    ipAllowlist: durable.schedulerIpAllowlist
    identityId: ids.identity
    principalId: identity.outputs.principalId
  }
}

module roles 'modules/roles.bicep' = {
  params: {
    identityId: ids.identity
    principalId: identity.outputs.principalId
    storageName: names.storage
    vaultName: names.vault
    insightsName: names.insights
  }
  dependsOn: [storage, vault, telemetry]
}

module useOfNew 'modules/openai-role.bicep' = [for (each, i) in newOpenAi: {
  params: { account: accountNames[i], role: each.role, identityId: ids.identity, principalId: identity.outputs.principalId }
  dependsOn: [openAi[i]]
}]

module useOfExisting 'modules/openai-role.bicep' = [for each in existingOpenAi: {
  scope: resourceGroup(each.?subscription ?? subscription().subscriptionId, each.group)
  params: { account: each.account, role: each.role, identityId: ids.identity, principalId: identity.outputs.principalId }
}]

module net 'modules/network.bicep' = if (isPrivate && existingNetwork == null) {
  params: { name: names.network, location: location, tags: allTags }
}

module namesOf 'modules/zone.bicep' = [for each in ownZones: {
  params: { name: zones[each], linkName: names.network, tags: allTags, networkId: networkId }
  dependsOn: [net]
}]

module endpoints 'modules/endpoint.bicep' = [for way in behind: {
  params: {
    name: 'pe-${name}-${way.name}'
    location: location
    tags: allTags
    subnetId: subnets.endpoints
    targetId: way.targetId
    groupId: way.groupId
    zone: zones[way.zone]
    dnsZones: existingNetwork.?dnsZones
  }
  dependsOn: [net, namesOf, storage, vault, openAi, safety, topic]
}]

module app 'modules/app.bicep' = {
  params: {
    name: names.app
    location: location
    tags: allTags
    scale: scale
    resilience: resilience
    identityId: ids.identity
    packageContainer: 'https://${names.storage}.blob.${environment().suffixes.storage}/${packages}'
    subnetId: isPrivate ? subnets.app : ''
    isPublic: network != 'private'
  }
  // A first start without its roles, or without a way to its storage, fails.
  dependsOn: [roles, useOfNew, useOfExisting, endpoints]
}

module entrance 'modules/endpoint.bicep' = [for way in front: {
  params: {
    name: 'pe-${name}-${way.name}'
    location: location
    tags: allTags
    subnetId: subnets.endpoints
    targetId: way.targetId
    groupId: way.groupId
    zone: zones[way.zone]
    dnsZones: existingNetwork.?dnsZones
  }
  dependsOn: [net, namesOf, app]
}]

module appSettings 'modules/settings.bicep' = {
  params: {
    appName: names.app
    storageName: names.storage
    insightsName: names.insights
    vaultName: names.vault
    clientId: identity.outputs.clientId
    taskHub: taskHub
    schedulerEndpoint: durable.backend == 'scheduler' ? scheduler!.outputs.endpoint : ''
    safetyEndpoint: contentSafety ? 'https://${names.safety}.cognitiveservices.azure.com' : ''
    topicEndpoint: pipelines.eventTopic ? topic!.outputs.endpoint : ''
    takesRequests: pipelines.requests
    settings: settings
    upstreams: upstreams
  }
  dependsOn: [app, telemetry]
}

module diagnostics 'modules/diagnostics.bicep' = if (monitoring.auditLogs) {
  params: { workspaceId: ids.workspace, storageName: names.storage, vaultName: names.vault }
  dependsOn: [telemetry, storage, vault]
}

module alerts 'modules/alerts.bicep' = if (!empty(monitoring.alertEmails)) {
  params: {
    name: name
    location: location
    tags: allTags
    workspaceId: ids.workspace
    storageId: ids.storage
    emails: monitoring.alertEmails
  }
  dependsOn: [telemetry, storage]
}

module workbook 'modules/workbook.bicep' = {
  params: { name: name, location: location, tags: allTags, workspaceId: ids.workspace }
  dependsOn: [telemetry]
}

module availability 'modules/availability.bicep' = if (monitoring.availabilityTest && network != 'private') {
  params: {
    name: name
    location: location
    tags: allTags
    insightsName: names.insights
    url: app.outputs.url
    tellsPeople: !empty(monitoring.alertEmails)
  }
  dependsOn: [telemetry, alerts]
}

module spending 'modules/budget.bicep' = if (budget != null) {
  params: { name: 'budget-${name}', budget: budget! }
}

module events 'modules/events.bicep' = if (finishedVideoEvents) {
  params: {
    name: names.systemTopic
    location: location
    tags: allTags
    storageName: names.storage
  }
  dependsOn: [storage]
}

module senders 'modules/events-role.bicep' = [for each in pipelines.senders: if (pipelines.requests) {
  params: { storageName: names.storage, queueName: 'video-requests', senderId: each, principalId: each }
  dependsOn: [storage]
}]

module topic 'modules/topic.bicep' = if (pipelines.eventTopic) {
  params: {
    name: names.topic
    location: location
    tags: allTags
    identityId: ids.identity
    principalId: identity.outputs.principalId
    isPrivate: isPrivate
  }
}

module safety 'modules/content-safety.bicep' = if (contentSafety) {
  params: {
    name: names.safety
    location: location
    tags: allTags
    identityId: ids.identity
    principalId: identity.outputs.principalId
    isPrivate: isPrivate
  }
}

output AZURE_RESOURCE_GROUP string = resourceGroup().name
output GATEWAY_APP string = names.app
output GATEWAY_URL string = app.outputs.url
output GATEWAY_VAULT string = names.vault
output GATEWAY_STORAGE string = names.storage
