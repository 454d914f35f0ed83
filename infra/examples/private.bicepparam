using '../main.bicep'

import * as usual from 'usual.bicep'

// Reached from inside a network alone, which is made with its zones of names.
param network = 'private'
param contentSafety = true

param name = 'private'
param location = usual.location
param tags = usual.tags
param scale = usual.scale
param resilience = usual.resilience
param retention = usual.retention
param newOpenAi = usual.newOpenAi
param existingOpenAi = []
param settings = usual.settings
param durable = usual.durable
param monitoring = usual.monitoring
param operators = []
param pipelines = usual.pipelines
param finishedVideoEvents = false
