// Storage publishes an event for every video that is saved; Event Grid puts it into a queue, with an identity of its own.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param storageName string

resource storage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageName

  resource queues 'queueServices' existing = {
    name: 'default'
  }
}

resource finished 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-08-01' = {
  parent: storage::queues
  name: 'finished-videos'
}

resource topic 'Microsoft.EventGrid/systemTopics@2025-02-15' = {
  name: name
  location: location
  tags: tags
  identity: { type: 'SystemAssigned' }
  properties: { source: storage.id, topicType: 'Microsoft.Storage.StorageAccounts' }
}

module send 'events-role.bicep' = {
  params: { storageName: storageName, queueName: finished.name, senderId: topic.id, principalId: topic.identity.principalId }
}

resource saved 'Microsoft.EventGrid/systemTopics/eventSubscriptions@2025-02-15' = {
  parent: topic
  name: 'finished-videos'
  properties: {
    eventDeliverySchema: 'CloudEventSchemaV1_0'
    filter: {
      includedEventTypes: ['Microsoft.Storage.BlobCreated']
      subjectBeginsWith: '/blobServices/default/containers/videos/'
      subjectEndsWith: '.mp4'
    }
    deliveryWithResourceIdentity: {
      identity: { type: 'SystemAssigned' }
      destination: {
        endpointType: 'StorageQueue'
        properties: { resourceId: storage.id, queueName: finished.name, queueMessageTimeToLiveInSeconds: 604800 }
      }
    }
  }
  dependsOn: [send]
}
