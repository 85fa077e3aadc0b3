// franz-go: every codec, an idempotent producer, direct consuming, a group of two, administration.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var seed string

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func ensure(condition bool, format string, args ...any) {
	if !condition {
		check(fmt.Errorf(format, args...), "failed")
	}
}

func client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seed), kgo.AllowAutoTopicCreation()}, options...)...)
	check(err, "client")
	return made
}

func value(i int) []byte {
	return bytes.Repeat([]byte{byte(i)}, i*37)
}

func produce(ctx context.Context, topic string, codec kgo.CompressionCodec, count int) {
	producer := client(kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(5*time.Millisecond))
	defer producer.Close()
	for i := 0; i < count; i++ {
		record := &kgo.Record{Key: []byte(fmt.Sprint(i)), Value: value(i % 1000),
			Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: nil}}}
		producer.Produce(ctx, record, func(_ *kgo.Record, err error) { check(err, "produce") })
	}
	check(producer.Flush(ctx), "flush")
}

func codecs(ctx context.Context) {
	for name, codec := range map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()} {
		topic := "go-" + name
		produce(ctx, topic, codec, 1000)
		reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}),
			kgo.FetchMaxWait(100*time.Millisecond))
		next := 0
		for next < 1000 {
			fetches := reader.PollFetches(ctx)
			check(fetches.Err(), "fetch "+topic)
			fetches.EachRecord(func(record *kgo.Record) {
				ensure(record.Offset == int64(next), "offset %d instead of %d", record.Offset, next)
				ensure(bytes.Equal(record.Value, value(next)), "value of %d", next)
				ensure(len(record.Headers) == 2, "headers of %d", next)
				next++
			})
		}
		reader.Close()
	}
}

func group(ctx context.Context, admin *kadm.Client) {
	_, err := admin.CreateTopic(ctx, 4, 1, nil, "go-group")
	check(err, "create")
	produce(ctx, "go-group", kgo.Lz4Compression(), 4000)
	var lock sync.Mutex
	seen := map[string]int{}
	sizes := [2]int{}
	members := [2]*kgo.Client{}
	for i := range members {
		members[i] = client(kgo.ConsumerGroup("go"), kgo.ConsumeTopics("go-group"), kgo.DisableAutoCommit(),
			kgo.SessionTimeout(6*time.Second), kgo.HeartbeatInterval(300*time.Millisecond),
			kgo.FetchMaxWait(100*time.Millisecond),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
				lock.Lock()
				sizes[i] += len(added["go-group"])
				lock.Unlock()
			}),
			kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
				lock.Lock()
				sizes[i] -= len(lost["go-group"])
				lock.Unlock()
			}))
	}
	running, stop := context.WithCancel(ctx)
	var polls sync.WaitGroup
	for _, member := range members {
		polls.Add(1)
		go func() {
			defer polls.Done()
			for running.Err() == nil {
				fetches := member.PollFetches(running)
				lock.Lock()
				fetches.EachRecord(func(record *kgo.Record) { seen[string(record.Key)]++ })
				lock.Unlock()
			}
		}()
	}
	for {
		lock.Lock()
		done := len(seen) == 4000 && sizes == [2]int{2, 2}
		lock.Unlock()
		if done {
			break
		}
		check(ctx.Err(), fmt.Sprintf("two members share: %v, %d records", sizes, len(seen)))
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	polls.Wait()
	for _, member := range members {
		check(member.CommitUncommittedOffsets(ctx), "commit")
		member.Close()
	}
	lag, err := admin.Lag(ctx, "go")
	check(err, "lag")
	ensure(lag["go"].Lag.Total() == 0, "lag %d", lag["go"].Lag.Total())
}

func administration(ctx context.Context, admin *kadm.Client) {
	_, err := admin.CreateTopic(ctx, 1, 1, nil, "go-group")
	ensure(kerr.TypedErrorForCode(36) == err, "a topic that is there: %v", err)
	large := "2000000"
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes",
		Value: &large}}, "go-group")
	check(err, "alter")
	check(altered[0].Err, "alter")
	offsets, err := admin.ListEndOffsets(ctx, "go-group")
	check(err, "end offsets")
	total := int64(0)
	offsets.Each(func(offset kadm.ListedOffset) { total += offset.Offset })
	ensure(total == 4000, "end offsets add up to %d", total)
	deleted, err := admin.DeleteGroups(ctx, "go")
	check(err, "delete group")
	check(deleted["go"].Err, "delete group")
	_, err = admin.DeleteTopics(ctx, "go-group")
	check(err, "delete topic")
}

func main() {
	seed = os.Args[1]
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	admin := kadm.NewClient(client())
	defer admin.Close()
	codecs(ctx)
	group(ctx, admin)
	administration(ctx, admin)
}
