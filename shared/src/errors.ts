/**
 * Every error that a user can meet. The code is stable: scripts, alerts and the docs name it.
 * What to do about it belongs in the message, not in the code.
 */
export type ErrorCode =
  | 'USAGE' // a wrong argument or option
  | 'PORT_IN_USE'
  | 'DATA_DIR_NOT_WRITABLE'
  | 'FILE_NOT_FOUND'
  | 'FILE_NOT_READABLE'
  | 'CSV_INVALID' // a recording that cannot be read as a table of sensors; the message says why
  | 'DBC_INVALID' // not one usable message in the file
  | 'DBC_ENCODE' // a value that a message cannot carry
  | 'CAN_FRAME_INVALID' // a line or datagram that is not a CAN frame
  | 'CAN_SOURCE_UNKNOWN'
  | 'CAN_UNAVAILABLE' // the bus cannot be opened: no such interface or device, or a program is missing
  | 'CAN_BUS_DOWN' // the bus was there and is gone; the agent opens it again
  | 'CAN_BUS_OFF' // the controller saw too many faults and takes no part any more
  | 'CAN_ERROR_PASSIVE' // the controller sees many faults
  | 'CAN_SEND_FAILED'
  | 'DIAGNOSTICS_TIMEOUT' // a control unit did not answer, or stopped in the middle of an answer
  | 'DIAGNOSTICS_REFUSED' // a control unit answered with a negative response, an abort or an overflow
  | 'DIAGNOSTICS_MALFORMED' // an answer that is not what was asked for
  | 'VSS_MAP_INVALID'
  | 'CAMPAIGN_SIGNAL_UNKNOWN' // a campaign names a signal that this car does not have; its column stays empty
  | 'CAMPAIGN_INVALID' // a campaign document that cannot be used; the message names the place
  | 'CAMPAIGN_UNKNOWN' // no campaign, or no version of it, with this name in the registry
  | 'CAMPAIGN_EXISTS' // this version is published with other content
  | 'FILTER_INVALID' // a filter over vehicles that is no RSQL; the message names the character
  | 'ROLLOUT_INVALID' // a plan that cannot be used; the message names the place
  | 'ROLLOUT_UNKNOWN'
  | 'ROLLOUT_EXISTS'
  | 'ROLLOUT_STATE' // it is not in a state in which this can be done
  | 'PROPOSAL_UNKNOWN' // the closed loop has made no proposal with this id
  | 'PROPOSAL_STATE' // it is not in a state in which this can be done
  | 'LOG_VERSION' // the log file was written by another version
  | 'LOG_CORRUPT'
  | 'LOG_FULL' // no space is left on the disk
  | 'LOG_BUSY' // another process keeps the log locked
  | 'LOG_CLOSED'
  | 'LOG_UNREACHABLE' // no Kafka broker answers, or the one that leads the partition does not
  | 'LOG_DENIED' // Kafka refuses the user, the certificate, or the right to this topic or group
  | 'LOG_COMPRESSION' // a record batch in a compression that this Node.js cannot read
  | 'RECORD_REFUSED' // the log will never take this record: too large, or its time is not accepted
  | 'TOPIC_UNKNOWN'
  | 'TOPIC_EXISTS'
  | 'OFFSET_OUT_OF_RANGE'
  | 'OUTBOX_VERSION'
  | 'OUTBOX_FULL' // no space is left on its disk; rows wait in memory
  | 'OUTBOX_IO' // its disk fails; rows wait in memory
  | 'OUTBOX_CORRUPT' // damaged: set aside, and a new one begun
  | 'UPLINK_BUDGET' // the bytes of this day are used up; rows wait until the next
  | 'CLOCK_UNKNOWN' // the computer's clock has not been set yet; what was recorded waits for it
  | 'TELEMETRY_MALFORMED'
  | 'EVENT_MALFORMED'
  | 'SIGNAL_SET_MISMATCH' // a model or a batch for other signals than these
  | 'SIGNAL_SET_UNKNOWN'
  | 'MODEL_INVALID'
  | 'MODEL_UNKNOWN'
  | 'MODEL_THREW' // a model failed in the car while it scored
  | 'MODEL_NOT_FINITE' // its score was not a number, with its windows full
  | 'MODEL_TOO_SLOW' // it took more time than a row may
  | 'MODEL_CRASH_LOOP' // the process died again and again soon after the model had begun to score
  | 'SELF_TEST_FAILED' // here it does not give the scores that its manifest says
  | 'MODEL_ENGINE_UNSUPPORTED' // it needs an engine that this car does not have
  | 'MODEL_FEATURES_UNSUPPORTED' // it needs features that this agent does not compute
  | 'MODEL_TOO_LARGE' // more bytes or operations than the car has room or time for
  | 'MODEL_EXISTS'
  | 'ONNX_UNSUPPORTED' // a graph that the car's executor cannot run, or layers that ONNX is not written of
  | 'LABEL_INVALID' // an alias or tags that a model cannot have
  | 'VEHICLE_INVALID' // what is to be registered cannot be a vehicle; the message names the place
  | 'VEHICLE_UNKNOWN' // no vehicle with this id was registered or has said anything
  | 'BLOB_UNKNOWN'
  | 'BLOB_HASH_MISMATCH'
  | 'TRAINING_DATA_INSUFFICIENT'
  | 'TRAINING_DIVERGED'
  | 'CONFIG_INVALID' // a model.yaml that cannot be used; the message names the place
  | 'CHECKPOINT_UNUSABLE' // of another version, another configuration or another span
  | 'TFJS_UNAVAILABLE' // no backend of TensorFlow.js, or not the one that was asked for, can train this network here
  | 'TUF_SIGNATURE' // too few valid signatures
  | 'TUF_VERSION' // a version that went back, or is not the one that was named
  | 'TUF_EXPIRED'
  | 'TUF_HASH' // length or hash differs from the signed one
  | 'TUF_MALFORMED'
  | 'TUF_TARGET_UNKNOWN'
  | 'KEY_INVALID' // a file that is no key, or needs another passphrase
  | 'SIGNING_UNKNOWN' // no such metadata waits for signatures
  | 'SIGNATURE_REFUSED' // not by a key that may sign, or it would lock somebody out
  | 'HTTP_STATUS'
  | 'HTTP_UNREACHABLE'
  | 'MQTT_UNREACHABLE'
  | 'MQTT_REFUSED'
  | 'TOKEN_REQUIRED'
  | 'UNAUTHORIZED' // nobody, or somebody whose token or certificate is not right
  | 'TOKEN_UNKNOWN' // there is no token with this id to revoke
  | 'FORBIDDEN' // somebody who may not do this
  | 'REQUEST_INVALID' // not as the OpenAPI document says; the message names the place
  | 'CURSOR_INVALID'
  | 'ROUTE_UNKNOWN'
  | 'METHOD_NOT_ALLOWED'
  | 'BODY_TOO_LARGE'
  | 'MEDIA_TYPE_UNSUPPORTED'
  | 'RANGE_NOT_SATISFIABLE'
  | 'REQUEST_TIMEOUT'
  | 'RATE_LIMITED'
  | 'IDEMPOTENCY_KEY_REUSED' // the key came before, with another body
  | 'IDEMPOTENCY_IN_PROGRESS' // the first request with this key is not answered yet
  | 'INTERNAL' // the service failed; its own output says why
  | 'SERVICE_FAILED' // a child process of the demo ended by itself
  | 'LOOP_OPEN';

/** An error with a stable code and a message that says what to do. Shown to users without a stack trace. */
export class CardanError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'CardanError';
    this.code = code;
  }
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The system's code (`ENOENT`, `EADDRINUSE`, …) of anything that was thrown, if it has one. */
export function systemCode(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
