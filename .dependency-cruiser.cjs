/** The structure as rules: what may import what. `npm run check:deps` fails on each breach. */
module.exports = {
  forbidden: [
    {
      name: 'no-circular',
      severity: 'error',
      comment: 'A cycle has no place where one can begin to read.',
      from: {},
      to: { circular: true },
    },
    {
      name: 'not-to-unresolvable',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'not-to-undeclared',
      severity: 'error',
      comment: 'A package must be in the dependencies of the workspace that imports it.',
      from: { path: '^(shared|agent|bridge|cloud|simulators)/src' },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'npm-dev'], dependencyTypesNot: ['npm-peer'] },
    },
    {
      name: 'shared-is-a-leaf',
      severity: 'error',
      from: { path: '^shared/src' },
      to: { path: '^(agent|bridge|cloud|simulators)/' },
    },
    {
      name: 'tiers-meet-in-shared',
      severity: 'error',
      comment: 'agent, bridge and cloud are separate programs on separate machines.',
      from: { path: '^(agent|bridge|cloud)/src' },
      to: { path: '^(agent|bridge|cloud|simulators)/', pathNot: '^$1/' },
    },
    {
      name: 'no-log-in-the-car',
      severity: 'error',
      comment: 'The log and its clients are the cloud’s; a car speaks MQTT and HTTP.',
      from: { path: '^agent/src' },
      to: { path: '^shared/src/event-log|node_modules/(kafkajs|@platformatic/kafka)' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
    },
  },
};
