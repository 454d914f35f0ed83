// Where logs and metrics go. Nobody writes them with a key: the app's identity does.
import * as types from '../types.bicep'

param workspaceName string
param insightsName string
param location string
param tags types.tags
param monitoring types.monitoring

resource workspace 'Microsoft.OperationalInsights/workspaces@2025-02-01' = {
  name: workspaceName
  location: location
  tags: tags
  properties: {
    sku: { name: 'PerGB2018' }
    retentionInDays: monitoring.logDays
    workspaceCapping: { dailyQuotaGb: monitoring.dailyCapGb }
    features: { disableLocalAuth: true }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: insightsName
  location: location
  tags: tags
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}
