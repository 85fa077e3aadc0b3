// The scenario with franz-go.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"highwater.test/clients/scenario"
)

var (
	seed, name string
	check      = scenario.Check
	ensure     = scenario.Ensure
)

func client(options ...kgo.Opt) *kgo.Client {
	options = append([]kgo.Opt{kgo.SeedBrokers(strings.Split(seed, ",")...), kgo.AllowAutoTopicCreation(),
		kgo.FetchMaxWait(100 * time.Millisecond), kgo.ProducerBatchMaxBytes(1_048_588)}, options...)
	if secured := scenario.TLS(); secured != nil {
		options = append(options, kgo.DialTLSConfig(secured))
	}
	made, err := kgo.NewClient(options...)
	check(err, "client")
	return made
}

// The number of partitions of a topic, or 0 if it does not exist. The request is direct, because kadm may use a cache.
func partitions(ctx context.Context, of *kgo.Client, topic string) int {
	request := kmsg.NewPtrMetadataRequest()
	answer, err := request.RequestWith(ctx, of)
	check(err, "metadata")
	for _, each := range answer.Topics {
		if *each.Topic == topic {
			return len(each.Partitions)
		}
	}
	return 0
}

func administration(ctx context.Context, admin *kadm.Client) {
	topic, retention := name+"-admin", "1234567"
	_, err := admin.CreateTopic(ctx, 3, 1, map[string]*string{"retention.ms": &retention}, topic)
	check(err, "create")
	_, err = admin.CreateTopic(ctx, 3, 1, nil, topic)
	ensure(errors.Is(err, kerr.TopicAlreadyExists), "a topic that is there: %v", err)
	asking := client()
	defer asking.Close()
	scenario.Until(func() bool { return partitions(ctx, asking, topic) == 3 }, "three partitions")
	configs, err := admin.DescribeTopicConfigs(ctx, topic)
	check(err, "describe configs")
	found, err := configs.On(topic, nil)
	check(err, "configs")
	for _, config := range found.Configs {
		ensure(config.Key != "retention.ms" || *config.Value == retention, "retention.ms %v", config.Value)
	}
	_, err = admin.CreatePartitions(ctx, 2, topic)
	check(err, "create partitions")
	scenario.Until(func() bool { return partitions(ctx, asking, topic) == 5 }, "five partitions")
	_, err = admin.DeleteTopics(ctx, topic)
	check(err, "delete")
	scenario.Until(func() bool { return partitions(ctx, asking, topic) == 0 }, "the topic is gone")
}

func same(record *kgo.Record, i int) {
	ensure(record.Offset == int64(i), "offset %d instead of %d", record.Offset, i)
	ensure(scenario.Same(record.Key, scenario.Key(i)), "key of %d", i)
	ensure(scenario.Same(record.Value, scenario.Value(i)), "value of %d", i)
	ensure(record.Timestamp.Equal(scenario.Time(i)), "timestamp of %d: %v", i, record.Timestamp)
	headers := record.Headers
	ensure(len(headers) == 3 && headers[0].Key == "a" && headers[2].Key == "n", "headers of %d", i)
	ensure(string(headers[0].Value) == "1" && bytes.Equal(headers[1].Value, []byte{0xff}), "headers of %d", i)
	ensure(headers[2].Value == nil, "the null header of %d", i)
}

func reader(topic string, from int64) *kgo.Client {
	return client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().At(from)}}))
}

func codec(ctx context.Context, admin *kadm.Client, codecName string, codec kgo.CompressionCodec) {
	topic := name + "-" + codecName
	producer := client(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond))
	for i := range scenario.Count {
		record := &kgo.Record{Key: scenario.Key(i), Value: scenario.Value(i), Timestamp: scenario.Time(i),
			Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte{0xff}}, {Key: "n"}}}
		producer.Produce(ctx, record, func(_ *kgo.Record, err error) { check(err, "produce") })
	}
	check(producer.Flush(ctx), "flush")
	producer.Close()
	all := reader(topic, 0)
	for next := 0; next < scenario.Count; {
		fetches := all.PollFetches(ctx)
		check(fetches.Err(), "fetch "+topic)
		fetches.EachRecord(func(record *kgo.Record) {
			same(record, next)
			next++
		})
	}
	all.Close()
	offsets, err := admin.ListOffsetsAfterMilli(ctx, scenario.Time(50).UnixMilli(), topic)
	check(err, "offset for a time")
	found, _ := offsets.Lookup(topic, 0)
	ensure(found.Offset == 50, "offset for a time: %d", found.Offset)
	ends, err := admin.ListEndOffsets(ctx, topic)
	check(err, "end")
	found, _ = ends.Lookup(topic, 0)
	ensure(found.Offset == scenario.Count, "end: %d", found.Offset)
	seek := reader(topic, 77)
	fetches := seek.PollFetches(ctx)
	check(fetches.Err(), "seek")
	same(fetches.Records()[0], 77)
	seek.Close()
}

func largest(ctx context.Context) {
	producer := client(kgo.DefaultProduceTopic(name+"-largest"), kgo.ProducerBatchMaxBytes(2_000_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer producer.Close()
	check(producer.ProduceSync(ctx, &kgo.Record{Value: scenario.Pattern(0, scenario.Largest)}).FirstErr(), "largest")
	err := producer.ProduceSync(ctx, &kgo.Record{Value: scenario.Pattern(0, scenario.Largest+1)}).FirstErr()
	ensure(errors.Is(err, kerr.MessageTooLarge), "more than the largest: %v", err)
}

func fill(ctx context.Context, from, to int) {
	producer := client(kgo.DefaultProduceTopic(name+"-group"), kgo.ProducerBatchCompression(kgo.Lz4Compression()))
	defer producer.Close()
	for i := from; i < to; i++ {
		record := &kgo.Record{Key: fmt.Appendf(nil, "k%d", i%97), Value: []byte(strconv.Itoa(i))}
		producer.Produce(ctx, record, func(_ *kgo.Record, err error) { check(err, "produce") })
	}
	check(producer.Flush(ctx), "flush")
}

// The partitions and the records of two members.
type shared struct {
	sync.Mutex
	sizes [2]int
	seen  map[int]bool
}

func (state *shared) wait(ctx context.Context, what string, condition func() bool) {
	for {
		state.Lock()
		done := condition()
		state.Unlock()
		if done {
			return
		}
		check(ctx.Err(), what)
		time.Sleep(20 * time.Millisecond)
	}
}

func (state *shared) member(i int) *kgo.Client {
	change := func(by int) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			state.Lock()
			state.sizes[i] += by * len(partitions[name+"-group"])
			state.Unlock()
		}
	}
	return client(kgo.ConsumerGroup(name), kgo.ConsumeTopics(name+"-group"), kgo.DisableAutoCommit(),
		kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(change(1)), kgo.OnPartitionsRevoked(change(-1)), kgo.OnPartitionsLost(change(-1)))
}

func (state *shared) poll(ctx context.Context, member *kgo.Client, polls *sync.WaitGroup) {
	defer polls.Done()
	for ctx.Err() == nil {
		fetches := member.PollFetches(ctx)
		state.Lock()
		fetches.EachRecord(func(record *kgo.Record) {
			number, err := strconv.Atoi(string(record.Value))
			check(err, "value")
			state.seen[number] = true
		})
		state.Unlock()
	}
}

func group(ctx context.Context, admin *kadm.Client) {
	_, err := admin.CreateTopic(ctx, 4, 1, nil, name+"-group")
	check(err, "create")
	fill(ctx, 0, scenario.GroupCount)
	state := &shared{seen: map[int]bool{}}
	members, stops, polls := [2]*kgo.Client{}, [2]context.CancelFunc{}, [2]sync.WaitGroup{}
	for i := range members {
		members[i] = state.member(i)
		running, stop := context.WithCancel(ctx)
		stops[i] = stop
		polls[i].Add(1)
		go state.poll(running, members[i], &polls[i])
	}
	leave := func(i int) {
		stops[i]()
		polls[i].Wait()
		check(members[i].CommitUncommittedOffsets(ctx), "commit")
		members[i].Close()
	}
	state.wait(ctx, "two members share", func() bool {
		return state.sizes == [2]int{2, 2} && len(state.seen) == scenario.GroupCount
	})
	scenario.Until(func() bool {
		described, err := admin.DescribeGroups(ctx, name)
		check(err, "describe group")
		return described[name].State == "Stable" && len(described[name].Members) == 2
	}, "a stable group of two")
	check(members[1].CommitUncommittedOffsets(ctx), "commit")
	leave(0)
	state.wait(ctx, "the other takes over", func() bool { return state.sizes[1] == 4 })
	state.Lock()
	state.seen = map[int]bool{}
	state.Unlock()
	fill(ctx, scenario.GroupCount, scenario.GroupCount+scenario.More)
	state.wait(ctx, "the other reads on", func() bool { return scenario.Rest(state.seen) >= scenario.More })
	leave(1)
	for number := range state.seen {
		ensure(number >= scenario.GroupCount || !scenario.Alone(seed), "%d is read again", number)
	}
	offsets, err := admin.FetchOffsets(ctx, name)
	check(err, "offsets")
	sum := int64(0)
	offsets.Each(func(offset kadm.OffsetResponse) { sum += offset.At })
	ensure(sum == scenario.GroupCount+scenario.More, "committed %d", sum)
	deleted, err := admin.DeleteGroups(ctx, name)
	check(err, "delete group")
	check(deleted[name].Err, "delete group")
}

func main() {
	seed, name = os.Args[1], os.Args[2]
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	admin := kadm.NewClient(client())
	defer admin.Close()
	administration(ctx, admin)
	for codecName, each := range map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()} {
		codec(ctx, admin, codecName, each)
	}
	largest(ctx)
	group(ctx, admin)
	fmt.Printf("franz-go %s: the scenario holds\n", scenario.Version("github.com/twmb/franz-go"))
}
