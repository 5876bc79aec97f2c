import type { Random } from './random.ts';

/** Where the car is. `parked` is ignition off; the bus stays awake, as it does for minutes in a real car. */
export type Road = 'parked' | 'city' | 'rural' | 'motorway';

export interface DriveCycleState {
  road: Road;
  /** Seconds left on this road (parked: until the next start). */
  roadLeft: number;
  /** Seconds left of the trip; then the driver stops and parks. */
  tripLeft: number;
  /** Seconds left at this target speed. */
  holdLeft: number;
  /** m/s that the driver wants; 0 at a red light. */
  target: number;
  /** m/s around the target: nobody holds a speed exactly. */
  wander: number;
  /** Strongest acceleration that this driver asks for until the next target, m/s². */
  push: number;
}

interface RoadKind {
  /** Seconds on this kind of road. */
  stay: [number, number];
  /** m/s. */
  speed: [number, number];
  /** Seconds at one speed. */
  hold: [number, number];
  /** Chance that a stop follows on a held speed. */
  stop: number;
  /** Chances of the roads that may follow. */
  next: [Road, number][];
  /** Mean roughness of the surface, without a unit; 1 is a worn city street. */
  roughness: number;
}

const ROADS: Record<Exclude<Road, 'parked'>, RoadKind> = {
  city: {
    stay: [60, 160],
    speed: [8, 15.5],
    hold: [8, 25],
    stop: 0.45,
    next: [
      ['rural', 0.5],
      ['motorway', 0.25],
      ['city', 0.25],
    ],
    roughness: 1,
  },
  rural: {
    stay: [60, 150],
    speed: [18, 27.5],
    hold: [12, 45],
    stop: 0.1,
    next: [
      ['city', 0.4],
      ['motorway', 0.35],
      ['rural', 0.25],
    ],
    roughness: 0.85,
  },
  motorway: {
    stay: [80, 200],
    speed: [27, 37],
    hold: [15, 60],
    stop: 0,
    next: [
      ['rural', 0.5],
      ['city', 0.3],
      ['motorway', 0.2],
    ],
    roughness: 0.6,
  },
};

const TRIP_S: [number, number] = [240, 600];
/** Too short for the engine to cool, so that the fleet stays in one regime over hours. */
const PARK_S: [number, number] = [20, 60];
const RED_LIGHT_S: [number, number] = [5, 25];
const WANDER_TAU_S = 8;
const WANDER_MPS = 0.7;

/** A cycle somewhere in a trip, or parked and about to start. */
export function startCycle(random: Random, parked: boolean): DriveCycleState {
  const cycle: DriveCycleState = {
    road: parked
      ? 'parked'
      : pickRoad(random, [
          ['city', 0.4],
          ['rural', 0.35],
          ['motorway', 0.25],
        ]),
    roadLeft: random.between(2, 10),
    tripLeft: random.between(30, TRIP_S[1]),
    holdLeft: 0,
    target: 0,
    wander: 0,
    push: 1.5,
  };
  if (!parked) cycle.roadLeft = random.between(10, 120);
  return cycle;
}

/** Roughness of the surface under a car on this road. */
export function roughnessOf(road: Road): number {
  return road === 'parked' ? 1 : ROADS[road].roughness;
}

/**
 * Moves the driver's mind on by `dt` seconds, given the car's speed in m/s. The result is in
 * `cycle.target` and `cycle.wander`; `road` becomes `parked` only when the car stands.
 */
export function stepCycle(cycle: DriveCycleState, speed: number, dt: number, random: Random): void {
  cycle.roadLeft -= dt;
  cycle.tripLeft -= dt;
  cycle.holdLeft -= dt;
  cycle.wander +=
    (-cycle.wander * dt) / WANDER_TAU_S + WANDER_MPS * Math.sqrt((2 * dt) / WANDER_TAU_S) * random.normal();
  if (cycle.road === 'parked') {
    if (cycle.roadLeft <= 0) startTrip(cycle, random);
  } else if (cycle.tripLeft <= 0) {
    cycle.target = 0;
    if (speed < 0.1) park(cycle, random);
  } else {
    if (cycle.roadLeft <= 0) takeRoad(cycle, pickRoad(random, ROADS[cycle.road].next), random);
    if (cycle.holdLeft <= 0) nextTarget(cycle, ROADS[cycle.road], random);
  }
}

function startTrip(cycle: DriveCycleState, random: Random): void {
  takeRoad(cycle, 'city', random);
  cycle.tripLeft = random.between(...TRIP_S);
  // The engine starts and idles a moment before the car pulls away.
  cycle.target = 0;
  cycle.holdLeft = random.between(3, 8);
}

function park(cycle: DriveCycleState, random: Random): void {
  cycle.road = 'parked';
  cycle.roadLeft = random.between(...PARK_S);
}

function takeRoad(cycle: DriveCycleState, road: Exclude<Road, 'parked'>, random: Random): void {
  cycle.road = road;
  cycle.roadLeft = random.between(...ROADS[road].stay);
  cycle.holdLeft = 0;
}

function nextTarget(cycle: DriveCycleState, road: RoadKind, random: Random): void {
  cycle.push = random.between(0.9, 2);
  if (cycle.target > 0 && random.chance(road.stop)) {
    cycle.target = 0;
    // Braking to the light takes its time as well.
    cycle.holdLeft = random.between(...RED_LIGHT_S) + 8;
  } else {
    cycle.target = random.between(...road.speed);
    cycle.holdLeft = random.between(...road.hold);
  }
}

function pickRoad<R extends Road>(
  random: Random,
  choices: readonly (readonly [R, number])[],
): Exclude<R, 'parked'> {
  let rest = random.uniform();
  for (const [road, chance] of choices) {
    rest -= chance;
    if (rest < 0) return road as Exclude<R, 'parked'>;
  }
  return choices[0]![0] as Exclude<R, 'parked'>;
}
