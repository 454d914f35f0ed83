// Everything the app is told. This resource replaces the whole set, so whatever is not here does not survive a deployment.
import * as types from '../types.bicep'

param appName string
param storageName string
param insightsName string
param vaultName string
param clientId string
param taskHub string

@description('The scheduler\'s address; empty where orchestrations are kept in storage.')
param schedulerEndpoint string

@description('The Content Safety account\'s address; empty where there is none.')
param safetyEndpoint string

@description('The address of the topic for events; empty where there is none.')
param topicEndpoint string
param takesRequests bool
param settings types.settings

@description('App setting → address of an Azure OpenAI account.')
param upstreams { *: string }

resource app 'Microsoft.Web/sites@2025-03-01' existing = {
  name: appName
}

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

// Read by the Functions host, not by the app's code.
var host = {
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsDisableHomepage: 'true'
  APPLICATIONINSIGHTS_CONNECTION_STRING: insights.properties.ConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${clientId};Authorization=AAD'
  APPLICATIONINSIGHTS_STATSBEAT_DISABLED_ALL: 'true' // the exporter's own statistics, for Microsoft
  APPLICATIONINSIGHTS_CONTROLPLANE_DISABLED: 'true' // and settings of its own, from there
  TASK_HUB: taskHub
  // HTTP as a stream: 3.11 and 3.12 need it, later workers do so without being told.
  PYTHON_ENABLE_INIT_INDEXING: '1'
}

// Which of the two keeps orchestrations stands in the packaged host.json (infra/tools/package.py): what wakes an app that has no instance
// reads that file, and no overrides of it from here.
var hostWithScheduler = {
  DURABLE_TASK_SCHEDULER_CONNECTION_STRING: 'Endpoint=${schedulerEndpoint};TaskHub=${taskHub};Authentication=ManagedIdentity;ClientID=${clientId}'
}

// Read by shared/config/settings.py (and, as to storage, by the host too).
var gateway = {
  AzureWebJobsStorage__blobServiceUri: 'https://${storageName}.blob.${environment().suffixes.storage}/'
  AzureWebJobsStorage__queueServiceUri: 'https://${storageName}.queue.${environment().suffixes.storage}/'
  AzureWebJobsStorage__tableServiceUri: 'https://${storageName}.table.${environment().suffixes.storage}/'
  AzureWebJobsStorage__clientId: clientId
  AZURE_CLIENT_ID: clientId
}
var gatewayConfig = { GATEWAY_CONFIG: settings.configFile }
var gatewayApiVersion = { AZURE_API_VERSION: settings.apiVersion }
var gatewaySafety = { CONTENT_SAFETY_ENDPOINT: safetyEndpoint }
var gatewayEvents = { EVENT_GRID_TOPIC_ENDPOINT: topicEndpoint }
var gatewayRequests = { VIDEO_REQUESTS_QUEUE: 'video-requests' }
var gatewaySecrets = mapValues(settings.secrets, secret => '@Microsoft.KeyVault(VaultName=${vaultName};SecretName=${secret})')

resource all 'Microsoft.Web/sites/config@2025-03-01' = {
  parent: app
  name: 'appsettings'
  properties: union(
    host,
    empty(schedulerEndpoint) ? {} : hostWithScheduler,
    gateway,
    empty(settings.configFile) ? {} : gatewayConfig,
    empty(settings.apiVersion) ? {} : gatewayApiVersion,
    empty(safetyEndpoint) ? {} : gatewaySafety,
    empty(topicEndpoint) ? {} : gatewayEvents,
    takesRequests ? gatewayRequests : {},
    upstreams,
    gatewaySecrets
  )
}
