import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.zip.GZIPOutputStream;
import net.jpountz.lz4.LZ4FrameOutputStream;
import net.jpountz.lz4.LZ4FrameOutputStream.BLOCKSIZE;
import net.jpountz.lz4.LZ4FrameOutputStream.FLG;
import net.jpountz.xxhash.XXHashFactory;
import org.apache.kafka.common.compress.Compression;
import org.xerial.snappy.Snappy;
import org.xerial.snappy.SnappyOutputStream;

/**
 * Prints inputs of Kafka's codecs and the output of Kafka's own classes for each: the file `java_codecs.txt`.
 * Runs with the jars of Kafka 4.4's clients: `java -cp "LIBS/*" JavaCodecs.java > java_codecs.txt`.
 */
public class JavaCodecs {
    static final byte[] TEXT = "0123456789 the same again, the same again, the same again 0123456789".getBytes();
    static final byte[] JUNK = "junk!".getBytes();
    static final byte[] LONG_JUNK = "junk that is longer than any header of a codec would be".getBytes();

    static byte[] join(byte[]... parts) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        for (byte[] part : parts) out.writeBytes(part);
        return out.toByteArray();
    }

    static byte[] cut(byte[] bytes, int by) {
        return Arrays.copyOf(bytes, bytes.length - by);
    }

    static byte[] with(byte[] bytes, int at, int value) {
        byte[] out = bytes.clone();
        out[at < 0 ? out.length + at : at] = (byte) value;
        return out;
    }

    static byte[] lz4(int flags, int bd, byte[] extra, byte[]... rest) {
        byte[] descriptor = join(new byte[] {(byte) flags, (byte) bd}, extra);
        int hash = XXHashFactory.safeInstance().hash32().hash(descriptor, 0, descriptor.length, 0);
        return join(new byte[] {4, 0x22, 0x4d, 0x18}, descriptor, new byte[] {(byte) (hash >> 8)}, join(rest));
    }

    static byte[] le(int value) {
        return ByteBuffer.allocate(4).order(java.nio.ByteOrder.LITTLE_ENDIAN).putInt(value).array();
    }

    static byte[] be(int value) {
        return ByteBuffer.allocate(4).putInt(value).array();
    }

    static byte[] stored(byte[] block) {
        return join(le(block.length | 0x80000000), block);
    }

    static byte[] framed(FLG.Bits... flags) throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (LZ4FrameOutputStream lz4 = new LZ4FrameOutputStream(out, BLOCKSIZE.SIZE_64KB, TEXT.length, flags)) {
            lz4.write(TEXT);
        }
        return out.toByteArray();
    }

    static void say(String codec, String name, byte[] input) {
        Compression compression = switch (codec) {
            case "gzip" -> Compression.gzip().build();
            case "snappy" -> Compression.snappy().build();
            case "lz4" -> Compression.lz4().build();
            default -> Compression.zstd().build();
        };
        String made;
        try (InputStream in = compression.wrapForInput(ByteBuffer.wrap(input), (byte) 2, SUPPLIER)) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            byte[] piece = new byte[1000];
            // records are read like this: the bytes that are available, then one more read to find the end
            for (int n = in.read(piece); n > 0; n = in.read(piece)) out.write(piece, 0, n);
            if (in.read() != -1) throw new IllegalStateException("there is more");
            made = out.size() == 0 ? "empty" : HexFormat.of().formatHex(out.toByteArray());
        } catch (Throwable error) {
            made = "error";
        }
        System.out.println(codec + " " + name + " " + (input.length == 0 ? "-" : HexFormat.of().formatHex(input)) + " " + made);
    }

    static final org.apache.kafka.common.utils.internals.BufferSupplier SUPPLIER = org.apache.kafka.common.utils.internals.BufferSupplier.create();

    public static void main(String[] args) throws Exception {
        ByteArrayOutputStream buffer = new ByteArrayOutputStream();
        try (OutputStream gzip = new GZIPOutputStream(buffer)) { gzip.write(TEXT); }
        byte[] gzip = buffer.toByteArray();
        say("gzip", "whole", gzip);
        say("gzip", "two_members", join(gzip, gzip));
        say("gzip", "junk_after", join(gzip, JUNK));
        say("gzip", "long_junk_after", join(gzip, LONG_JUNK));
        say("gzip", "cut_trailer", cut(gzip, 3));
        say("gzip", "no_trailer", cut(gzip, 8));
        say("gzip", "cut_data", cut(gzip, 20));
        say("gzip", "wrong_checksum", with(gzip, -8, gzip[gzip.length - 8] ^ 1));
        say("gzip", "second_member_cut", join(gzip, cut(gzip, 20)));
        say("gzip", "second_header_wrong", join(gzip, with(gzip, 2, 7)));
        say("gzip", "nothing", new byte[0]);

        byte[] block = Snappy.compress(TEXT);
        buffer = new ByteArrayOutputStream();
        try (OutputStream snappy = new SnappyOutputStream(buffer)) { snappy.write(TEXT); }
        byte[] snappy = buffer.toByteArray();
        say("snappy", "framed", snappy);
        say("snappy", "bare_block", block);
        say("snappy", "two_streams", join(snappy, snappy));
        say("snappy", "three_bytes_after", join(snappy, new byte[] {0, 0, 0}));
        say("snappy", "junk_after", join(snappy, JUNK));
        say("snappy", "cut_block", cut(snappy, 3));
        say("snappy", "cut_between", Arrays.copyOf(snappy, 16));
        say("snappy", "cut_header", Arrays.copyOf(snappy, 12));
        say("snappy", "old_version", with(snappy, 11, 0));
        say("snappy", "old_compatible_version", with(snappy, 15, 0));
        say("snappy", "new_version", with(snappy, 11, 2));
        say("snappy", "second_header_old", join(snappy, with(snappy, 11, 0)));
        say("snappy", "second_header_cut", join(snappy, Arrays.copyOf(snappy, 10)));
        say("snappy", "second_header_wrong", join(snappy, with(snappy, 6, 9)));
        say("snappy", "second_header_wrong_at_2", join(snappy, with(snappy, 2, 9)));
        say("snappy", "first_header_wrong", with(snappy, 6, 9));
        say("snappy", "first_header_wrong_at_7", with(snappy, 7, 9));
        say("snappy", "negative_version", with(snappy, 8, 0xff));
        say("snappy", "second_negative_version", join(snappy, with(snappy, 8, 0xff)));
        say("snappy", "empty_chunk", join(Arrays.copyOf(snappy, 16), be(0)));
        say("snappy", "junk_after_bare_block", join(block, JUNK));
        say("snappy", "cut_bare_block", cut(block, 1));
        say("snappy", "nothing", new byte[0]);

        byte[] plain = framed(FLG.Bits.BLOCK_INDEPENDENCE);
        byte[] size = new byte[] {(byte) TEXT.length, 0, 0, 0, 0, 0, 0, 0};
        byte[] none = new byte[0];
        int ok = 0x60;
        say("lz4", "frame", plain);
        say("lz4", "content_size", framed(FLG.Bits.BLOCK_INDEPENDENCE, FLG.Bits.CONTENT_SIZE));
        say("lz4", "content_checksum", framed(FLG.Bits.BLOCK_INDEPENDENCE, FLG.Bits.CONTENT_CHECKSUM));
        say("lz4", "block_checksum", lz4(ok | 0x10, 0x40, none, stored(TEXT), le(XXHashFactory.safeInstance().hash32().hash(TEXT, 0, TEXT.length, 0)), le(0)));
        say("lz4", "wrong_block_checksum", lz4(ok | 0x10, 0x40, none, stored(TEXT), le(1), le(0)));
        say("lz4", "wrong_content_checksum", lz4(ok | 4, 0x40, none, stored(TEXT), le(0), le(1)));
        say("lz4", "no_content_checksum", lz4(ok | 4, 0x40, none, stored(TEXT), le(0)));
        say("lz4", "wrong_content_size", lz4(ok | 8, 0x40, with(size, 0, 1), stored(TEXT), le(0)));
        say("lz4", "linked_blocks", lz4(0x40, 0x40, none, stored(TEXT), le(0)));
        say("lz4", "dictionary", lz4(ok | 1, 0x40, le(7), stored(TEXT), le(0)));
        say("lz4", "reserved_flag", lz4(ok | 2, 0x40, none, stored(TEXT), le(0)));
        say("lz4", "version_2", lz4(0xa0, 0x40, none, stored(TEXT), le(0)));
        say("lz4", "block_size_3", lz4(ok, 0x30, none, stored(TEXT), le(0)));
        say("lz4", "block_size_7", lz4(ok, 0x70, none, stored(TEXT), le(0)));
        say("lz4", "reserved_high", lz4(ok, 0xc0, none, stored(TEXT), le(0)));
        say("lz4", "reserved_low", lz4(ok, 0x41, none, stored(TEXT), le(0)));
        say("lz4", "wrong_header_checksum", with(lz4(ok, 0x40, none, stored(TEXT), le(0)), 6, 0));
        say("lz4", "two_blocks", lz4(ok, 0x40, none, stored(TEXT), stored(TEXT), le(0)));
        say("lz4", "two_frames", join(plain, plain));
        say("lz4", "junk_after", join(plain, JUNK));
        say("lz4", "no_end_mark", cut(plain, 4));
        say("lz4", "cut_end_mark", cut(plain, 2));
        say("lz4", "cut_block", cut(plain, 10));
        say("lz4", "no_blocks", lz4(ok, 0x40, none, le(0)));
        say("lz4", "block_too_large", lz4(ok, 0x40, none, le(65537 | 0x80000000), TEXT, le(0)));
        say("lz4", "skippable_frame", join(new byte[] {0x50, 0x2a, 0x4d, 0x18}, le(5), JUNK, plain));
        say("lz4", "nothing", new byte[0]);

        byte[] zstd = com.github.luben.zstd.Zstd.compress(TEXT);
        say("zstd", "frame", zstd);
        say("zstd", "two_frames", join(zstd, zstd));
        say("zstd", "junk_after", join(zstd, JUNK));
        say("zstd", "three_bytes_after", join(zstd, new byte[] {1, 2, 3}));
        say("zstd", "cut", cut(zstd, 3));
        say("zstd", "second_cut", join(zstd, cut(zstd, 3)));
        say("zstd", "skippable_frame", join(new byte[] {0x50, 0x2a, 0x4d, 0x18}, le(5), JUNK, zstd));
        say("zstd", "nothing", new byte[0]);
    }
}
