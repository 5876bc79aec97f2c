import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.ControlRecordType;
import org.apache.kafka.common.record.EndTransactionMarker;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MemoryRecordsBuilder;
import org.apache.kafka.common.record.RecordBatch;
import org.apache.kafka.common.record.SimpleRecord;
import org.apache.kafka.common.record.TimestampType;

/**
 * Prints record-batches.json: record batches as Kafka's own Java classes make them (base64).
 *
 *   java -cp 'KAFKA/libs/*' MakeRecordBatches.java > record-batches.json
 *
 * The records are those of RECORDS in record-batch.test.ts.
 */
class MakeRecordBatches {
  static final long TIME = 1_700_000_000_000L;

  static byte[] bytes(String text) {
    return text.getBytes(StandardCharsets.UTF_8);
  }

  static SimpleRecord[] records() {
    byte[] large = new byte[10_000];
    Arrays.fill(large, (byte) 7);
    Header[] headers = {
      new RecordHeader("ce_type", bytes("io.cardan.telemetry")),
      new RecordHeader("grüße", bytes("äöü 漢字 🚗")),
      new RecordHeader("empty", bytes("")),
    };
    return new SimpleRecord[] {
      new SimpleRecord(TIME, bytes("car-1"), bytes("one")),
      new SimpleRecord(TIME + 1000, bytes("car-1"), bytes("two"), headers),
      new SimpleRecord(TIME - 86_400_000L * 3650, bytes("wagen-é"), bytes("ten years late")),
      new SimpleRecord(TIME + 4_000_000_000_000L, null, large),
      new SimpleRecord(0, bytes(""), null),
      new SimpleRecord(TIME + 63, bytes("x".repeat(70)), bytes("")),
    };
  }

  static byte[] batch(
      Compression compression, long baseOffset, TimestampType type, long appendTime, boolean transactional) {
    ByteBuffer buffer = ByteBuffer.allocate(1 << 20);
    MemoryRecordsBuilder builder =
        MemoryRecords.builder(
            buffer, RecordBatch.MAGIC_VALUE_V2, compression, type, baseOffset, appendTime,
            4711L, (short) 3, 1_000_000, transactional, RecordBatch.NO_PARTITION_LEADER_EPOCH);
    for (SimpleRecord record : records()) builder.append(record);
    return toBytes(builder.build());
  }

  static byte[] marker(ControlRecordType type, long offset) {
    return toBytes(
        MemoryRecords.withEndTransactionMarker(
            offset, TIME, RecordBatch.NO_PARTITION_LEADER_EPOCH, 4711L, (short) 3,
            new EndTransactionMarker(type, 0)));
  }

  static byte[] toBytes(MemoryRecords records) {
    ByteBuffer buffer = records.buffer().duplicate();
    byte[] all = new byte[buffer.remaining()];
    buffer.get(all);
    return all;
  }

  public static void main(String[] args) {
    Map<String, byte[]> batches = new LinkedHashMap<>();
    TimestampType create = TimestampType.CREATE_TIME;
    batches.put("none", batch(Compression.NONE, 0, create, -1, false));
    batches.put("gzip", batch(Compression.gzip().build(), 0, create, -1, false));
    batches.put("lz4", batch(Compression.lz4().build(), 0, create, -1, false));
    batches.put("zstd", batch(Compression.zstd().build(), 0, create, -1, false));
    batches.put("snappy", batch(Compression.snappy().build(), 0, create, -1, false));
    batches.put("far", batch(Compression.NONE, 1L << 40, create, -1, false));
    batches.put("appendTime", batch(Compression.NONE, 0, TimestampType.LOG_APPEND_TIME, TIME + 5, false));
    batches.put("transactional", batch(Compression.NONE, 0, create, -1, true));
    batches.put("committed", marker(ControlRecordType.COMMIT, 6));
    batches.put("aborted", marker(ControlRecordType.ABORT, 6));
    List<String> lines =
        batches.entrySet().stream()
            .map(e -> "  \"" + e.getKey() + "\": \"" + Base64.getEncoder().encodeToString(e.getValue()) + "\"")
            .toList();
    System.out.println("{\n" + String.join(",\n", lines) + "\n}");
  }
}
