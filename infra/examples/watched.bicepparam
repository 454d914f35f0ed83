using '../main.bicep'

import * as usual from 'usual.bicep'

// Alerts, an availability test, access logs and a monthly budget.
param monitoring = { logDays: 90, dailyCapGb: 5, auditLogs: true, availabilityTest: true, alertEmails: ['oncall@example.com'] }
param budget = { amount: 100, startDate: '2027-01-01', emails: ['team@example.com'] }
param operators = [{ principalId: '00000000-0000-0000-0000-000000000003', principalType: 'Group' }]

param name = 'watched'
param location = usual.location
param tags = usual.tags
param scale = usual.scale
param resilience = usual.resilience
param retention = usual.retention
param newOpenAi = usual.newOpenAi
param existingOpenAi = []
param settings = usual.settings
param network = usual.network
param durable = usual.durable
param pipelines = usual.pipelines
param finishedVideoEvents = false
param contentSafety = false
