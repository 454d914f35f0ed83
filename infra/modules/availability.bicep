// Asks for the gateway from five places of the world, and mails where two of them get no good answer. Each look wakes an app that has no
// instance.
import * as types from '../types.bicep'

param name string
param location string
param tags types.tags
param insightsName string

@description('The gateway\'s address.')
param url string

@description('Whether the people of alerts.bicep hear of it.')
param tellsPeople bool

resource insights 'Microsoft.Insights/components@2020-02-02' existing = {
  name: insightsName
}

// Ids of Azure's test agents: Virginia, Texas, the Netherlands, Ireland, Singapore.
var places = ['us-va-ash-azr', 'us-tx-sn1-azr', 'emea-nl-ams-azr', 'emea-gb-db3-azr', 'apac-sg-sin-azr']

resource test 'Microsoft.Insights/webtests@2022-06-15' = {
  name: '${name}-health'
  location: location
  // The portal shows the test where its component is by this tag alone.
  tags: union(tags, { 'hidden-link:${insights.id}': 'Resource' })
  kind: 'standard'
  properties: {
    SyntheticMonitorId: '${name}-health'
    Name: '${name}-health'
    Description: 'Whether the gateway runs and reaches its storage.'
    Enabled: true
    Frequency: 900
    // A cold start takes its time.
    Timeout: 60
    Kind: 'standard'
    RetryEnabled: true
    Locations: [for each in places: { Id: each }]
    Request: { RequestUrl: '${url}/health/readiness', HttpVerb: 'GET', ParseDependentRequests: false }
    ValidationRules: { ExpectedHttpStatusCode: 200, SSLCheck: true, SSLCertRemainingLifetimeCheck: 7 }
  }
}

resource unreachable 'Microsoft.Insights/metricAlerts@2026-01-01' = if (tellsPeople) {
  name: '${name}-unreachable'
  location: 'global'
  tags: tags
  properties: {
    description: 'The gateway does not answer in two places of the world.'
    severity: 1
    enabled: true
    scopes: [test.id, insights.id]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT15M'
    criteria: {
      'odata.type': 'Microsoft.Azure.Monitor.WebtestLocationAvailabilityCriteria'
      webTestId: test.id
      componentId: insights.id
      failedLocationCount: 2
    }
    actions: [{ actionGroupId: resourceId('Microsoft.Insights/actionGroups', 'ag-${name}') }]
  }
}
