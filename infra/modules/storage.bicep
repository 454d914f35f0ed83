// One account for the host's state, the gateway's tables and the videos. Two would separate customers' content from run-time
// state; one is cheaper, and only one identity can reach either.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param retention types.retention
param resilience types.resilience
param isPrivate bool

@description('Let Event Grid in past the firewall; only needed where it delivers events.')
param trustAzureServices bool

@description('Make the queue of requests, its poison queue, and the container for their reference images.')
param takesRequests bool

@description('Make the queue of events.')
param tellsEvents bool

@description('The name of the container that deployed packages are kept in.')
param packages string

var videos = 'videos'
var references = 'references'
var requests = takesRequests ? ['video-requests', 'video-requests-poison'] : []
var events = tellsEvents ? ['video-events'] : []
var days = retention.?videoDays

var expireReferences = {
  // The app deletes a reference image as soon as its video is submitted; this is for those that a crash left behind.
  name: 'expire-references'
  enabled: true
  type: 'Lifecycle'
  definition: {
    filters: { blobTypes: ['blockBlob'], prefixMatch: ['${references}/'] }
    actions: { baseBlob: { delete: { daysAfterCreationGreaterThan: 7 } } }
  }
}
var expireVideos = {
  name: 'expire-videos'
  enabled: true
  type: 'Lifecycle'
  definition: {
    filters: { blobTypes: ['blockBlob'], prefixMatch: ['${videos}/'] }
    actions: { baseBlob: { delete: { daysAfterCreationGreaterThan: days ?? 36500 } } }
  }
}

resource account 'Microsoft.Storage/storageAccounts@2025-08-01' = {
  name: name
  location: location
  tags: tags
  kind: 'StorageV2'
  sku: { name: resilience == 'zone' ? 'Standard_ZRS' : 'Standard_LRS' }
  properties: {
    allowSharedKeyAccess: false
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    defaultToOAuthAuthentication: true
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
    networkAcls: {
      defaultAction: isPrivate ? 'Deny' : 'Allow'
      bypass: trustAzureServices ? 'AzureServices' : 'None'
    }
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      deleteRetentionPolicy: retention.?undeleteDays == null
        ? { enabled: false }
        : { enabled: true, days: retention.undeleteDays! }
      cors: {
        // Any origin: a browser that follows the gateway's redirect tells storage none (`Origin: null`). Whoever has the signed URL may
        // read the video anyway, and storage knows no cookies.
        corsRules: empty(retention.corsOrigins)
          ? []
          : [
              {
                allowedOrigins: ['*']
                allowedMethods: ['GET', 'HEAD']
                allowedHeaders: ['*']
                exposedHeaders: ['*']
                maxAgeInSeconds: 3600
              }
            ]
      }
    }

    resource containers 'containers' = [for each in union([videos, references, packages, 'manifests'], takesRequests ? ['inputs'] : []): {
      name: each
      properties: { publicAccess: 'None' }
    }]
  }

  resource queues 'queueServices' = {
    name: 'default'

    resource all 'queues' = [for each in concat(requests, events): {
      name: each
    }]
  }

  resource tables 'tableServices' = {
    name: 'default'

    resource all 'tables' = [for each in ['gateway', 'pools']: {
      name: each
    }]
  }

  resource lifecycle 'managementPolicies' = {
    name: 'default'
    properties: {
      policy: { rules: days == null ? [expireReferences] : [expireReferences, expireVideos] }
    }
  }
}
