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
    query: loadTextContent('../queries/alerts/server-errors.kql')
    threshold: 5
    window: 'PT15M'
  }
  {
    name: 'orchestrations-restarted'
    severity: 2
    description: 'The sweep found videos that nothing was working on, and started them again.'
    query: loadTextContent('../queries/alerts/orchestrations-restarted.kql')
    threshold: 5
    window: 'PT1H'
  }
  {
    name: 'saving-fails'
    severity: 2
    description: 'Finished videos could not be saved.'
    query: loadTextContent('../queries/alerts/saving-fails.kql')
    threshold: 5
    window: 'PT1H'
  }
  {
    name: 'upstream-fails'
    severity: 2
    description: 'Azure OpenAI refuses or does not answer, again and again.'
    query: loadTextContent('../queries/alerts/upstream-fails.kql')
    threshold: 20
    window: 'PT15M'
  }
  {
    name: 'queue-age'
    severity: 2
    description: 'A video has waited for more than an hour.'
    query: loadTextContent('../queries/alerts/queue-age.kql')
    threshold: 3
    window: 'PT15M'
  }
  {
    name: 'sink-failures'
    severity: 2
    description: 'A logging provider does not take events.'
    query: loadTextContent('../queries/alerts/sink-failures.kql')
    threshold: 5
    window: 'PT1H'
  }
  {
    name: 'log-cap'
    severity: 1
    description: 'The log takes no more today: most alerts are blind until it does.'
    query: loadTextContent('../queries/alerts/log-cap.kql')
    threshold: 0
    window: 'PT1H'
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
