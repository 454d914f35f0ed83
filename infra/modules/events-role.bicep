// Lets a topic, or a pipeline of yours, put messages into one queue.
param storageName string
param queueName string

@description('What sends, by an id that is known at the start, for the assignment\'s name.')
param senderId string
param principalId string

resource storage 'Microsoft.Storage/storageAccounts@2025-08-01' existing = {
  name: storageName

  resource queues 'queueServices' existing = {
    name: 'default'
  }
}

resource queue 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-08-01' existing = {
  parent: storage::queues
  name: queueName
}

var storageQueueDataMessageSender = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a')

resource send 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: queue
  name: guid(queue.id, senderId, storageQueueDataMessageSender)
  properties: {
    roleDefinitionId: storageQueueDataMessageSender
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
