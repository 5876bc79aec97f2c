import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { checkVehicleId, mqttTopic, parseMqttTopic } from '@cardan/shared';

const vehicle = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.:-]{0,63}$/);
const channel = fc.constantFrom('telemetry', 'event', 'ack', 'desired', 'reported', 'status');

describe('MQTT topics', () => {
  it('name a vehicle and a channel', () => {
    expect(mqttTopic('car-1', 'telemetry')).toBe('cardan/v1/car-1/telemetry');
    expect(mqttTopic('+', 'event')).toBe('cardan/v1/+/event');
    fc.assert(
      fc.property(vehicle, channel, (vehicle, channel) => {
        expect(parseMqttTopic(mqttTopic(checkVehicleId(vehicle), channel))).toEqual({ vehicle, channel });
      }),
    );
  });

  it.each([
    '',
    'cardan/v1',
    'cardan/v1/car',
    'cardan/v2/car/event',
    'other/v1/car/event',
    'cardan/v1//event',
    'cardan/v1/+/event',
    'cardan/v1/#',
    'cardan/v1/car/event/more',
    '/cardan/v1/car/event',
    'cardan/v1/a b/event',
    `cardan/v1/${'x'.repeat(65)}/event`,
  ])('are not ours when they look like %j', (topic) => {
    expect(parseMqttTopic(topic)).toBeUndefined();
  });

  it.each(['', ' ', 'a/b', '+', '#', '$SYS', 'ä', 'x'.repeat(65), 'a\n'])('refuse the vehicle %j', (bad) => {
    expect(() => checkVehicleId(bad)).toThrow(expect.objectContaining({ code: 'USAGE' }) as Error);
  });

  it('stay within MQTT: no wildcard and no level more, whatever the vehicle', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 70 }), (text) => {
        const parsed = parseMqttTopic(`cardan/v1/${text}/event`);
        if (parsed === undefined) return;
        expect(parsed.vehicle).toBe(text);
        expect(text).not.toMatch(/[/+#\0\s]/);
      }),
    );
  });
});
