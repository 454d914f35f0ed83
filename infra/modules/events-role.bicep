// Lets the topic put messages into its one queue. A module, so that the assignment's name can hold the topic's identity: a topic that is
// made anew has another, and an assignment cannot be moved from one to the other.
param storageName string
param queueName string
param principalId string

resource storage 'Microsoft.Storage/storageAccounts@2025-01-01' existing = {
  name: storageName

  resource queues 'queueServices' existing = {
    name: 'default'
  }
}

resource finished 'Microsoft.Storage/storageAccounts/queueServices/queues@2025-01-01' existing = {
  parent: storage::queues
  name: queueName
}

var storageQueueDataMessageSender = subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'c6a89b2d-59bc-44d0-9896-0f6e12d7b80a')

resource send 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  scope: finished
  name: guid(finished.id, principalId, storageQueueDataMessageSender)
  properties: {
    roleDefinitionId: storageQueueDataMessageSender
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
