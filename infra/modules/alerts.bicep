// Mail when the gateway needs a person. The texts are those the code logs; docs/operations.md says what to do about each.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param workspaceId string
param storageId string
param emails string[]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${name}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'gateway'
    enabled: true
    emailReceivers: [for (each, i) in emails: { name: 'mail-${i}', emailAddress: each, useCommonAlertSchema: true }]
  }
}

var rules = [
  {
    name: 'server-errors'
    severity: 1
    description: 'Callers got errors of the gateway\'s own.'
    query: 'AppRequests | where toint(ResultCode) >= 500'
    threshold: 5
    window: 'PT15M'
  }
  {
    name: 'orchestrations-restarted'
    severity: 2
    description: 'The sweep found videos that nothing was working on, and started them again.'
    query: 'AppTraces | where Message has "had no living orchestration" or Message has "did not move"'
    threshold: 5
    window: 'PT1H'
  }
  {
    name: 'saving-fails'
    severity: 2
    description: 'Finished videos could not be saved.'
    query: 'AppTraces | where Message has "apim-request-id" and Message contains ": content: "'
    threshold: 5
    window: 'PT1H'
  }
  {
    name: 'upstream-fails'
    severity: 2
    description: 'Azure OpenAI refuses or does not answer, again and again.'
    query: 'AppTraces | where Message has "apim-request-id" and Message !contains ": content: "'
    threshold: 20
    window: 'PT15M'
  }
]

resource logged 'Microsoft.Insights/scheduledQueryRules@2026-03-01' = [for each in rules: {
  name: '${name}-${each.name}'
  location: location
  tags: tags
  kind: 'LogAlert'
  properties: {
    displayName: '${name}: ${each.name}'
    description: each.description
    severity: each.severity
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: each.window == 'PT1H' ? 'PT30M' : 'PT15M'
    windowSize: each.window
    criteria: {
      allOf: [
        {
          query: each.query
          timeAggregation: 'Count'
          operator: 'GreaterThan'
          threshold: each.threshold
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    autoMitigate: true
    // A new workspace has no such tables until the first record arrives.
    skipQueryValidation: true
    actions: { actionGroups: [people.id] }
  }
}]

resource storageDown 'Microsoft.Insights/metricAlerts@2026-01-01' = {
  name: '${name}-storage-unavailable'
  location: 'global'
  tags: tags
  properties: {
    description: 'Storage fails requests: nothing can be admitted or saved.'
    severity: 1
    enabled: true
    scopes: [storageId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria'
      allOf: [
        {
          name: 'availability'
          criterionType: 'StaticThresholdCriterion'
          metricName: 'Availability'
          timeAggregation: 'Average'
          operator: 'LessThan'
          threshold: 99
        }
      ]
    }
    actions: [{ actionGroupId: people.id }]
  }
}
