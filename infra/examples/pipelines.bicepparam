using '../main.bicep'

import * as usual from 'usual.bicep'

// Messages start videos, and events tell of them, every way there is.
param pipelines = { requests: true, senders: ['00000000-0000-0000-0000-000000000004'], eventQueue: true, eventTopic: true }
param finishedVideoEvents = true

param name = 'pipelines'
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
param monitoring = usual.monitoring
param operators = []
param contentSafety = false
