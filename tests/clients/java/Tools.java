import java.io.*;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.common.message.ApiVersionsRequestData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.common.requests.ApiVersionsResponse;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs transcripts of Apache Kafka's command-line tools, all in this one JVM, and writes each transcript again with the
 * present output of the tools. In a transcript `$ ` begins a command, `< ` is a line of its input, `## ` a remark, and
 * `? ` its exit code if that is not 0; every other line is output. `$~ ` begins a command that is run again until its
 * output is the one in the transcript, for at most ten seconds. FILES is the directory of the transcript, BROKER the
 * broker's address, and further names are given; in the output they take the place of their values. Values that differ
 * between runs are masked by type.
 * Arguments: names as NAME=VALUE, the broker's address, the pause between commands in ms, the directory to write to, the
 * transcripts.
 */
public class Tools {
    static final String T = "org.apache.kafka.tools.";
    static final Map<String, String> MAIN = Map.ofEntries(
        Map.entry("kafka-topics", T + "TopicCommand"),
        Map.entry("kafka-configs", "kafka.admin.ConfigCommand"),
        Map.entry("kafka-get-offsets", T + "GetOffsetShell"),
        Map.entry("kafka-delete-records", T + "DeleteRecordsCommand"),
        Map.entry("kafka-console-producer", T + "ConsoleProducer"),
        Map.entry("kafka-console-consumer", T + "consumer.ConsoleConsumer"),
        Map.entry("kafka-broker-api-versions", T + "BrokerApiVersionsCommand"),
        Map.entry("kafka-cluster", T + "ClusterTool"),
        Map.entry("kafka-features", T + "FeatureCommand"),
        Map.entry("kafka-metadata-quorum", T + "MetadataQuorumCommand"),
        Map.entry("kafka-leader-election", T + "LeaderElectionCommand"),
        Map.entry("kafka-reassign-partitions", T + "reassign.ReassignPartitionsCommand"),
        Map.entry("kafka-groups", T + "GroupsCommand"),
        Map.entry("kafka-log-dirs", T + "LogDirsCommand"),
        Map.entry("kafka-consumer-groups", T + "consumer.group.ConsumerGroupCommand"),
        Map.entry("kafka-producer-perf-test", T + "ProducerPerformance"),
        Map.entry("kafka-consumer-perf-test", T + "ConsumerPerformance"),
        Map.entry("kafka-verifiable-producer", T + "VerifiableProducer"));
    /** This tool ends by System.exit and prints in a shutdown hook, so it needs a JVM of its own. */
    static final Set<String> OWN_JVM = Set.of("kafka-verifiable-producer");
    static final long COMMAND_MS_MAX = 40_000;

    /** A masked value: a pattern whose whole match must have the type, and the replacement. */
    static final Map<Pattern, String> MASKS = new LinkedHashMap<>();
    static {
        MASKS.put(Pattern.compile("(?<=TopicId: |Cluster ID: )[A-Za-z0-9_-]{22}(?![A-Za-z0-9_-])"), "<uuid>");
        MASKS.put(Pattern.compile("(?<=127\\.0\\.0\\.1 )\\d{5}(?= )"), "<port>");
        MASKS.put(Pattern.compile("\\b1[6-9]\\d{11}\\b"), "<ms>");
        MASKS.put(Pattern.compile("\\b\\d+\\.\\d+(?= records/sec| MB/sec| ms (?:avg|max) latency)"), "<rate>");
        MASKS.put(Pattern.compile("\\b\\d+(?= ms (?:50|95|99|99\\.9)th)"), "<rate>");
        MASKS.put(Pattern.compile("(?<=\"avg_throughput\":)\\d+\\.\\d+(?:E\\d+)?"), "<rate>");
        MASKS.put(Pattern.compile("\tat .*\n"), "");
        // what kafka-metadata-quorum, kafka-features and kafka-broker-api-versions print
        MASKS.put(Pattern.compile("(?<=ClusterId: {1,20}|\"directoryId\": \"|\t)[A-Za-z0-9_-]{22}(?=[\"\t\n])"), "<uuid>");
        MASKS.put(Pattern.compile("(?<=LeaderEpoch: {1,20}|HighWatermark: {1,20}|LagTimeMs: {1,20}|[\t ]Epoch: )\\d+"), "<n>");
        MASKS.put(Pattern.compile("(?<=\t)\\d+ +(?=\t0 +\t)"), "<end>");
        MASKS.put(Pattern.compile("\\b\\d+ ms ago +"), "<ms> ago ");
        MASKS.put(Pattern.compile("(?<=MaxFollowerLag: {1,20})[1-9]\\d*"), "<lag>");
        MASKS.put(Pattern.compile(" -> \\(\n(?:\t.*\n)+\\)"), "");
    }

    /** Sorts settings that a broker lists in no defined order. */
    static final Pattern SETTINGS = Pattern.compile("(?<=Configs: )\\S+");
    /** Sorts nodes, which are listed by their ids: the same name may have another id in each run. */
    static final Pattern ROWS = Pattern.compile("(?<=^(?:NodeId|ID ).{1,200}\n)(?s:.*)|^\\S+ \\(id: (?s:.*)");
    static final Pattern VOTERS = Pattern.compile("(?<=^CurrentVoters: {1,20}\\[\\{).*(?=}])", Pattern.MULTILINE);

    /** Thrown in place of an end of the JVM. */
    static final class Exited extends Error {
        Exited() { super("exited", null, false, false); }
    }

    /** The target of System.out and System.err: the running command's buffer, or nothing once it has exited. */
    static final class Switch extends OutputStream {
        private ByteArrayOutputStream now;
        synchronized void to(ByteArrayOutputStream next) { now = next; }
        @Override public synchronized void write(int b) { if (now != null) now.write(b); }
        @Override public synchronized void write(byte[] b, int from, int n) { if (now != null) now.write(b, from, n); }
    }

    static final Switch output = new Switch();
    /** Names and their values, the longest names first. */
    static final Map<String, String> names = new TreeMap<>(
        Comparator.comparing((String name) -> -name.length()).thenComparing(Comparator.naturalOrder()));
    static String broker;
    static String files;
    static volatile Integer exitCode;
    static final List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());

    public static void main(String[] given) throws Exception {
        int first = 0;
        for (; given[first].contains("="); first++) names.put(given[first].split("=")[0], given[first].split("=")[1]);
        String[] args = Arrays.copyOfRange(given, first, given.length);
        broker = args[0];
        names.put("BROKER", broker);
        long pauseMs = Long.parseLong(args[1]);
        var stream = new PrintStream(output, true, StandardCharsets.UTF_8);
        System.setOut(stream);
        System.setErr(stream);
        Exit.setExitProcedure((code, message) -> exit(code));
        Exit.setHaltProcedure((code, message) -> exit(code));
        Exit.setShutdownHookAdder((name, hook) -> hooks.add(hook));
        for (String file : Arrays.asList(args).subList(3, args.length)) {
            Path path = Path.of(file);
            files = path.getParent().toString();
            Files.writeString(Path.of(args[2]).resolve(path.getFileName()), replay(Files.readAllLines(path), pauseMs));
            clean();
        }
        System.exit(0);
    }

    static synchronized void exit(int code) {
        if (exitCode == null) exitCode = code;
        output.to(null);
        throw new Exited();
    }

    /** Runs a transcript's commands, and returns the transcript with their present output. */
    static String replay(List<String> lines, long pauseMs) throws Exception {
        var out = new StringBuilder();
        for (int i = 0; i < lines.size(); i++) {
            String line = lines.get(i);
            if (line.startsWith("## ")) out.append(out.isEmpty() ? "" : "\n").append(line).append('\n');
            if (line.startsWith("$~ ")) out.append(line).append('\n').append(runUntil(line, expected(lines, i + 1)));
            if (!line.startsWith("$ ")) continue;
            var input = new StringBuilder();
            out.append(line).append('\n');
            for (; i + 1 < lines.size() && lines.get(i + 1).startsWith("< "); i++) {
                out.append(lines.get(i + 1)).append('\n');
                input.append(lines.get(i + 1).substring(2)).append('\n');
            }
            out.append(runOnce(line.substring(2), input.toString()));
            Thread.sleep(pauseMs);
        }
        return out.toString();
    }

    /** The masked output of a command, and its exit code if that is not 0. */
    static String runOnce(String command, String input) throws Exception {
        String output = mask(run(words(command), input));
        return exitCode == 0 ? output : output + "? " + exitCode + '\n';
    }

    /** The output that a transcript has from a line on. */
    static String expected(List<String> lines, int from) {
        var expected = new StringBuilder();
        for (int i = from; i < lines.size() && !lines.get(i).matches("(\\$~?|##) .*"); i++)
            expected.append(lines.get(i)).append('\n');
        return expected.toString().stripTrailing();
    }

    static String runUntil(String line, String expected) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
        while (true) {
            String output = runOnce(line.substring(3), "");
            if (output.stripTrailing().equals(expected) || System.nanoTime() > deadline) return output;
            Thread.sleep(200);
        }
    }

    /** Deletes every topic, so that no transcript sees those of another. */
    static void clean() throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", broker))) {
            admin.deleteTopics(admin.listTopics().names().get()).all().get();
        }
    }

    /** Splits at blanks; single quotes keep them. */
    static List<String> words(String line) {
        var words = new ArrayList<String>();
        line = line.replace("FILES", files);
        for (var name : names.entrySet()) line = line.replaceAll("\\b" + name.getKey() + "\\b", name.getValue());
        var matcher = Pattern.compile("(?:'[^']*'|[^\\s'])+").matcher(line);
        while (matcher.find()) words.add(matcher.group().replace("'", ""));
        return words;
    }

    static String mask(String text) {
        for (var name : names.entrySet())
            text = text.replaceAll("(?<![\\w.-])" + Pattern.quote(name.getValue()) + "(?![\\w.-])", name.getKey());
        for (var mask : MASKS.entrySet()) text = mask.getKey().matcher(text).replaceAll(mask.getValue());
        text = SETTINGS.matcher(text).replaceAll(found ->
            String.join(",", new TreeSet<>(List.of(found.group().split(",")))));
        text = ROWS.matcher(text).replaceAll(found ->
            found.group().lines().sorted().map(row -> row + "\n").collect(java.util.stream.Collectors.joining()));
        text = VOTERS.matcher(text).replaceAll(found ->
            String.join("}, {", new TreeSet<>(List.of(found.group().split("}, \\{")))));
        return text.isEmpty() || text.endsWith("\n") ? text : text + "\n";
    }

    static String run(List<String> words, String input) throws Exception {
        String name = words.get(0);
        String[] args = words.subList(1, words.size()).toArray(String[]::new);
        exitCode = null;
        if (name.equals("api-versions")) return apiVersions();
        if (OWN_JVM.contains(name)) return runApart(name, args);
        var buffer = new ByteArrayOutputStream();
        output.to(buffer);
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        var main = Class.forName(MAIN.get(name)).getMethod("main", String[].class);
        var thread = new Thread(() -> {
            try {
                main.invoke(null, (Object) args);
            } catch (java.lang.reflect.InvocationTargetException thrown) {
                if (!(thrown.getCause() instanceof Exited)) {
                    System.err.println("Exception in thread \"main\" " + thrown.getCause());
                    exitCode = 1;
                }
            } catch (IllegalAccessException impossible) {
                throw new AssertionError(impossible);
            }
        });
        thread.setDaemon(true);
        thread.start();
        thread.join(COMMAND_MS_MAX);
        if (thread.isAlive()) {
            output.to(null);
            buffer.writeBytes("<timed out>\n".getBytes(StandardCharsets.UTF_8));
            exitCode = -1;
        }
        for (Runnable hook : List.copyOf(hooks)) hook.run();
        hooks.clear();
        output.to(null);
        if (exitCode == null) exitCode = 0;
        return buffer.toString(StandardCharsets.UTF_8);
    }

    static String runApart(String name, String[] args) throws Exception {
        var command = new ArrayList<String>(List.of(ProcessHandle.current().info().command().orElse("java"),
            "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.apache.logging.log4j.level=OFF",
            "-cp", System.getProperty("java.class.path"), MAIN.get(name)));
        command.addAll(Arrays.asList(args));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        process.getOutputStream().close();
        String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
        if (!process.waitFor(COMMAND_MS_MAX, TimeUnit.MILLISECONDS)) process.destroyForcibly();
        exitCode = process.waitFor();
        return said;
    }

    /** The broker's own answer to ApiVersions in version 4: a line for each API and each feature. */
    static String apiVersions() throws IOException {
        var header = new RequestHeaderData().setRequestApiKey(ApiKeys.API_VERSIONS.id).setRequestApiVersion((short) 4)
            .setClientId("transcript");
        var body = new ApiVersionsRequestData().setClientSoftwareName("transcript").setClientSoftwareVersion("1");
        var request = MessageUtil.toByteBufferAccessor(header, (short) 2).buffer();
        var rest = MessageUtil.toByteBufferAccessor(body, (short) 4).buffer();
        try (var socket = new Socket(broker.split(":")[0], Integer.parseInt(broker.split(":")[1]))) {
            var to = new DataOutputStream(socket.getOutputStream());
            to.writeInt(request.remaining() + rest.remaining());
            to.write(request.array(), 0, request.limit());
            to.write(rest.array(), 0, rest.limit());
            var from = new DataInputStream(socket.getInputStream());
            var answer = ByteBuffer.wrap(from.readNBytes(from.readInt()));
            answer.getInt();
            var data = ApiVersionsResponse.parse(new ByteBufferAccessor(answer), (short) 4).data();
            var lines = new TreeMap<Integer, String>();
            for (var api : data.apiKeys()) {
                String name = ApiKeys.hasId(api.apiKey()) ? ApiKeys.forId(api.apiKey()).name : "unnamed";
                lines.put((int) api.apiKey(), "api " + api.apiKey() + " " + name + " " + api.minVersion() + "-" + api.maxVersion());
            }
            var features = new TreeMap<String, String>();
            for (var feature : data.supportedFeatures())
                features.put(feature.name(), "feature " + feature.name() + " " + feature.minVersion() + "-" + feature.maxVersion());
            for (var feature : data.finalizedFeatures())
                features.merge(feature.name(), " finalized " + feature.minVersionLevel() + "-" + feature.maxVersionLevel(), String::concat);
            exitCode = (int) data.errorCode();
            return String.join("\n", lines.values()) + "\n" + String.join("\n", features.values()) + "\n";
        }
    }
}
