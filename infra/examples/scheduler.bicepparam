using '../main.bicep'

import * as usual from 'usual.bicep'

// Orchestrations are kept by Durable Task Scheduler.
param durable = { backend: 'scheduler', schedulerIpAllowlist: ['203.0.113.0/24'] }

param name = 'scheduler'
param location = usual.location
param tags = usual.tags
param scale = usual.scale
param resilience = usual.resilience
param retention = usual.retention
param newOpenAi = usual.newOpenAi
param existingOpenAi = []
param settings = usual.settings
param network = usual.network
param monitoring = usual.monitoring
param operators = []
param pipelines = usual.pipelines
param finishedVideoEvents = false
param contentSafety = false
