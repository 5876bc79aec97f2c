import { stuckSignal, WHEELS, type Fault } from './faults.ts';

/** What an engine short of air shows: less pressure and air for more throttle, at a load that it hardly reaches. */
const AIR_PATH = ['MassAirFlow', 'ManifoldPressure', 'ThrottlePosition', 'EngineLoad', 'FuelRate'];

/**
 * The signals of the part that is broken, by their names in the DBC: who blames one of them sends the car to the right
 * bench in the workshop. Signals that follow in second place (the oil of an engine that runs hot) are not among them.
 */
export function signalsOf(fault: Pick<Fault, 'kind' | 'wheel' | 'signal'>): string[] {
  const wheel = WHEELS[fault.wheel ?? 0];
  switch (fault.kind) {
    case 'coolant-leak':
    case 'thermostat-stuck-open':
      return ['CoolantTemperature'];
    case 'bearing-wear':
      return [fault.wheel === undefined ? 'EngineVibration' : `HubVibration${wheel}`];
    case 'battery-cell':
      return ['BatteryVoltage', 'BatteryCurrent', 'BatteryStateOfCharge'];
    case 'slow-puncture':
      return [`TyrePressure${wheel}`];
    case 'clogged-air-filter':
      return AIR_PATH;
    case 'stuck-sensor':
      return [stuckSignal(fault as Fault)];
  }
}
