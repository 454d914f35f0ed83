// One page about the gateway in the portal: what it does, what waits, what it costs, what fails. Its queries are files, to be used
// alone, too.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags

@description('The workspace that is asked.')
param workspaceId string

var charts = [
  { title: 'Videos that ended, by status', query: loadTextContent('../queries/videos-by-status.kql'), shown: 'barchart' }
  { title: 'The longest wait, in seconds', query: loadTextContent('../queries/queue-age.kql'), shown: 'timechart' }
  { title: 'Slots, and videos that wait or run', query: loadTextContent('../queries/slots.kql'), shown: 'timechart' }
  { title: 'Spend by key, in dollars', query: loadTextContent('../queries/spend-by-key.kql'), shown: 'table' }
  { title: 'What failed', query: loadTextContent('../queries/failures.kql'), shown: 'table' }
  { title: 'Upstream: seconds for a job', query: loadTextContent('../queries/upstream-latency.kql'), shown: 'timechart' }
  { title: 'Upstream: calls', query: loadTextContent('../queries/upstream-calls.kql'), shown: 'table' }
  { title: 'Cold starts', query: loadTextContent('../queries/cold-starts.kql'), shown: 'barchart' }
  { title: 'Events to webhooks and logging providers', query: loadTextContent('../queries/deliveries.kql'), shown: 'barchart' }
]

// The time that is looked at is chosen on the page.
var timeRange = {
  type: 9
  name: 'time'
  content: {
    version: 'KqlParameterItem/1.0'
    parameters: [
      {
        version: 'KqlParameterItem/1.0'
        name: 'TimeRange'
        label: 'Time'
        type: 4
        isRequired: true
        value: { durationMs: 86400000 }
        typeSettings: {
          selectableValues: map([1, 4, 24, 72, 168, 720], hours => { durationMs: hours * 3600000 })
          allowCustom: true
        }
      }
    ]
  }
}

var items = [for (each, i) in charts: {
  type: 3
  name: 'query-${i}'
  customWidth: each.shown == 'table' ? '100' : '50'
  content: {
    version: 'KqlItem/1.0'
    title: each.title
    query: each.query
    size: 0
    queryType: 0
    resourceType: 'microsoft.operationalinsights/workspaces'
    crossComponentResources: [workspaceId]
    timeContextFromParameter: 'TimeRange'
    visualization: each.shown
  }
}]

resource workbook 'Microsoft.Insights/workbooks@2023-06-01' = {
  name: guid(resourceGroup().id, name, 'workbook')
  location: location
  tags: tags
  kind: 'shared'
  properties: {
    displayName: 'Video gateway ${name}'
    category: 'workbook'
    sourceId: workspaceId
    version: 'Notebook/1.0'
    serializedData: string({ version: 'Notebook/1.0', items: concat([timeRange], items), fallbackResourceIds: [workspaceId] })
  }
}
