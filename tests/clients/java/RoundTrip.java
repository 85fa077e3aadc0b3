import java.nio.ByteBuffer;
import java.nio.file.*;
import java.util.*;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.protocol.Readable;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.record.internal.*;

/**
 * Compares Kafka's own classes with Highwater's. {@code read FILE} checks that each message of the file is read and
 * written back to the same bytes, and that each batch holds the records of the rule. {@code write DIR} writes the
 * batches that Highwater's classes are tested with.
 */
public class RoundTrip {
    static final long TIME = 1_700_000_000_000L;

    static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            write(Path.of(args[1]));
            return;
        }
        int messages = 0, batches = 0;
        for (String line : Files.readAllLines(Path.of(args[1]))) {
            String[] words = line.split(" ", -1);
            byte[] bytes = HexFormat.of().parseHex(words[words.length - 1]);
            if (words[0].equals("message")) {
                message(words[1], Short.parseShort(words[2]), bytes);
                messages++;
            } else {
                batch(words[1], bytes);
                batches++;
            }
        }
        check(messages > 0 && batches > 0, "the file holds messages and batches");
        System.out.println(messages + " messages and " + batches + " batches survive Kafka's classes");
    }

    static void message(String name, short version, byte[] bytes) throws Exception {
        String which = name + " " + version;
        try {
            var type = Class.forName("org.apache.kafka.common.message." + name + "Data");
            var from = new ByteBufferAccessor(ByteBuffer.wrap(bytes));
            var message = (Message) type.getConstructor(Readable.class, short.class).newInstance(from, version);
            check(from.remaining() == 0, from.remaining() + " bytes left");
            var again = MessageUtil.byteBufferToArray(MessageUtil.toByteBufferAccessor(message, version).buffer());
            check(Arrays.equals(again, bytes), "other bytes: " + HexFormat.of().formatHex(again));
        } catch (Throwable error) {
            throw new AssertionError(which + ": " + HexFormat.of().formatHex(bytes), error);
        }
    }

    static void batch(String name, byte[] bytes) {
        int seen = 0;
        for (var batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches()) {
            batch.ensureValid();
            check(batch.producerId() == 7 && batch.producerEpoch() == 1, name + ": the producer");
            int count = batch.countOrNull();
            long max = -1;
            for (var record : batch) {
                record.ensureValid();
                var wanted = record(seen, count);
                var which = name + " " + seen;
                check(record.offset() == seen, which + ": offset " + record.offset());
                check(record.sequence() == seen, which + ": sequence " + record.sequence());
                check(record.timestamp() == wanted.timestamp(), which + ": timestamp " + record.timestamp());
                check(Objects.equals(record.key(), wanted.key()), which + ": key");
                check(Objects.equals(record.value(), wanted.value()), which + ": value");
                check(Arrays.equals(record.headers(), wanted.headers()), which + ": headers");
                max = Math.max(max, record.timestamp());
                seen++;
            }
            check(seen == count && batch.maxTimestamp() == max, name + ": count and largest timestamp");
        }
        check(seen > 0, name + " is empty");
    }

    /** The rule: the content of the record at an index, in a batch of this many records. */
    static SimpleRecord record(int i, int count) {
        byte[] key = i % 3 == 0 ? null : ("key-" + i).getBytes();
        byte[] value = i % 5 == 4 ? null : new byte[(i * 37) % 2000];
        if (count == 1) value = new byte[3000];
        long noise = 1;
        for (int at = 0; value != null && at < value.length; at++) {
            noise = (noise * 1103515245 + 12345) & 0x7fffffff;
            value[at] = (byte) (count == 1 ? noise >> 16 : i + at / 50);
        }
        var headers = new ArrayList<Header>();
        for (int h = 0; h < i % 4; h++) {
            headers.add(new RecordHeader("h" + h % 2, h == 1 ? null : new byte[] {(byte) h, (byte) 0xff}));
        }
        return new SimpleRecord(TIME + i * 7 - (i % 2) * 1000, key, value, headers.toArray(new Header[0]));
    }

    static void write(Path dir) throws Exception {
        save(dir, "none", 12, Compression.NONE);
        save(dir, "gzip", 200, Compression.gzip().build());
        save(dir, "snappy", 200, Compression.snappy().build());
        save(dir, "lz4", 200, Compression.lz4().build());
        save(dir, "zstd", 200, Compression.zstd().build());
        save(dir, "gzip-noise", 1, Compression.gzip().build());
        save(dir, "snappy-noise", 1, Compression.snappy().build());
        save(dir, "lz4-noise", 1, Compression.lz4().build());
        save(dir, "zstd-noise", 1, Compression.zstd().build());
        save(dir, "lz4-level-17", 200, Compression.lz4().level(17).build());
        save(dir, "zstd-level-22", 200, Compression.zstd().level(22).build());
    }

    static void save(Path dir, String name, int count, Compression compression) throws Exception {
        var builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.CURRENT_MAGIC_VALUE, compression,
            TimestampType.CREATE_TIME, 0, RecordBatch.NO_TIMESTAMP, 7, (short) 1, 0, false, -1);
        for (int i = 0; i < count; i++) builder.append(record(i, count));
        byte[] bytes = MessageUtil.byteBufferToArray(builder.build().buffer());
        batch(name, bytes);
        var hex = HexFormat.of().formatHex(bytes).replaceAll("(.{120})", "$1\n").stripTrailing();
        Files.writeString(dir.resolve(name + ".hex"), hex + "\n");
    }
}
