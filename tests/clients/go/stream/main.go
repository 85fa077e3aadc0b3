// Command stream writes numbered records with franz-go until its standard input ends, while a group reads them. It prints
// the line "flowing" once a record was acknowledged and one was read. In the end it reads the whole topic once more, and
// prints what became of the records as one line of JSON. An error that franz-go retries by itself does not show: only
// those that it gives to the program.
//
//	stream BOOTSTRAP TOPIC PARTITIONS RECORDS_PER_SECOND
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// The longest time of a whole run.
	runMax = 20 * time.Minute
	// The longest time until records flow, with the creation of the topic.
	flowMax = time.Minute
	// The longest time in which the last records are acknowledged, and in which the topic is read.
	endMax = 2 * time.Minute
)

// What became of the records.
type outcome struct {
	Written int `json:"written"`
	Acked   int `json:"acked"`
	Lost    int `json:"lost"`
	Twice   int `json:"twice"`
	Grouped int `json:"read_by_the_group"`
	// How often the group told of a session that it could not join or keep, and joined again by itself.
	Rejoins int      `json:"rejoins"`
	Errors  []string `json:"errors"`
	// From writing a record to its acknowledgement.
	P50 int64 `json:"p50_ms"`
	P99 int64 `json:"p99_ms"`
	Max int64 `json:"max_ms"`
	// The longest time in which no record was acknowledged.
	Pause int64 `json:"pause_ms"`
}

type stream struct {
	seeds []string
	topic string
	mutex sync.Mutex
	// By the number of the record.
	acked   map[int]bool
	grouped map[int]bool
	took    []time.Duration
	pause   time.Duration
	last    time.Time
	rejoins int
	errors  []string
}

func check(err error, what string) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1)
	}
}

func (s *stream) failed(what string, err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.errors = append(s.errors, fmt.Sprintf("%s: %v", what, err))
}

func (s *stream) client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append(options, kgo.SeedBrokers(s.seeds...), kgo.FetchMaxWait(200*time.Millisecond))...)
	check(err, "client")
	return made
}

func (s *stream) create(ctx context.Context, partitions int) {
	client := s.client()
	defer client.Close()
	ctx, end := context.WithTimeout(ctx, flowMax)
	defer end()
	_, err := kadm.NewClient(client).CreateTopic(ctx, int32(partitions), -1, nil, s.topic)
	if !errors.Is(err, kerr.TopicAlreadyExists) {
		check(err, "create "+s.topic)
	}
}

// Writes records at a steady rate until the channel is closed, and waits for their answers.
func (s *stream) write(ctx context.Context, stop <-chan struct{}, perSecond int) int {
	client := s.client(kgo.DefaultProduceTopic(s.topic), kgo.ProducerLinger(5*time.Millisecond),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	defer client.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	begin, written, flows := time.Now(), 0, false
	for {
		for ; written < int(time.Since(begin).Seconds()*float64(perSecond)); written++ {
			number, since := written, time.Now()
			record := &kgo.Record{Value: []byte(strconv.Itoa(number))}
			client.Produce(ctx, record, func(_ *kgo.Record, err error) { s.answered(number, since, err) })
		}
		if !flows && s.flows() {
			flows = true
			fmt.Println("flowing")
		}
		select {
		case <-stop:
			ctx, end := context.WithTimeout(ctx, endMax)
			defer end()
			check(client.Flush(ctx), "the last records are not acknowledged")
			return written
		case <-ctx.Done():
			check(ctx.Err(), "nothing ends the stream")
		case <-tick.C:
			if !flows && time.Since(begin) > flowMax {
				check(errors.New("no record was acknowledged and read"), "write and read "+s.topic)
			}
		}
	}
}

// Whether a record was acknowledged, and one was read by the group.
func (s *stream) flows() bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return len(s.acked) > 0 && len(s.grouped) > 0
}

func (s *stream) answered(number int, since time.Time, err error) {
	if err != nil {
		s.failed(fmt.Sprintf("record %d", number), err)
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	now := time.Now()
	s.acked[number] = true
	s.took = append(s.took, now.Sub(since))
	if !s.last.IsZero() {
		s.pause = max(s.pause, now.Sub(s.last))
	}
	s.last = now
}

// Reads as the only member of a group until the context ends.
func (s *stream) readAsGroup(ctx context.Context, done chan<- struct{}) {
	client := s.client(kgo.ConsumerGroup(s.topic+"-group"), kgo.ConsumeTopics(s.topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		fetches.EachError(func(topic string, partition int32, err error) {
			var session *kgo.ErrGroupSession
			switch {
			case errors.Is(err, context.Canceled):
			case errors.As(err, &session):
				s.rejoins++
			default:
				s.failed(fmt.Sprintf("the group, %s-%d", topic, partition), err)
			}
		})
		s.mutex.Lock()
		fetches.EachRecord(func(record *kgo.Record) { s.grouped[number(record)] = true })
		s.mutex.Unlock()
	}
	client.Close()
	close(done)
}

func number(record *kgo.Record) int {
	number, err := strconv.Atoi(string(record.Value))
	check(err, "a record has another value")
	return number
}

// Reads the whole topic, and counts how often each record is there.
func (s *stream) readAll(ctx context.Context) map[int]int {
	client := s.client(kgo.ConsumeTopics(s.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	ctx, end := context.WithTimeout(ctx, endMax)
	defer end()
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, s.topic)
	check(err, "end offsets")
	check(ends.Error(), "end offsets")
	left := int64(0)
	ends.Each(func(end kadm.ListedOffset) { left += end.Offset })
	found := make(map[int]int)
	for left > 0 {
		fetches := client.PollFetches(ctx)
		check(fetches.Err(), "read "+s.topic)
		fetches.EachRecord(func(record *kgo.Record) {
			found[number(record)]++
			left--
		})
	}
	return found
}

// Waits until the group has read every record that was acknowledged, for a minute at most.
func (s *stream) awaitGroup() {
	for range 600 {
		s.mutex.Lock()
		missing := false
		for number := range s.acked {
			missing = missing || !s.grouped[number]
		}
		s.mutex.Unlock()
		if !missing {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.failed("the group", errors.New("it did not read every record in a minute"))
}

func (s *stream) judge(found map[int]int, written int) outcome {
	told := outcome{Written: written, Acked: len(s.acked), Grouped: len(s.grouped), Rejoins: s.rejoins, Errors: s.errors}
	for number := range s.acked {
		if found[number] == 0 {
			told.Lost++
		}
	}
	for _, times := range found {
		if times > 1 {
			told.Twice++
		}
	}
	if count := len(s.took); count > 0 {
		slices.Sort(s.took)
		told.P50 = s.took[count/2].Milliseconds()
		told.P99 = s.took[count*99/100].Milliseconds()
		told.Max = s.took[count-1].Milliseconds()
	}
	told.Pause = s.pause.Milliseconds()
	return told
}

func main() {
	if len(os.Args) != 5 {
		check(errors.New("BOOTSTRAP TOPIC PARTITIONS RECORDS_PER_SECOND"), "arguments")
	}
	partitions, err := strconv.Atoi(os.Args[3])
	check(err, "partitions")
	perSecond, err := strconv.Atoi(os.Args[4])
	check(err, "records per second")
	s := &stream{seeds: strings.Split(os.Args[1], ","), topic: os.Args[2], acked: map[int]bool{}, grouped: map[int]bool{}}
	ctx, end := context.WithTimeout(context.Background(), runMax)
	defer end()
	s.create(ctx, partitions)
	reading, endReading := context.WithCancel(ctx)
	done := make(chan struct{})
	go s.readAsGroup(reading, done)
	stop := make(chan struct{})
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		check(err, "standard input")
		close(stop)
	}()
	written := s.write(ctx, stop, perSecond)
	s.awaitGroup()
	endReading()
	<-done
	told := s.judge(s.readAll(ctx), written)
	check(json.NewEncoder(os.Stdout).Encode(told), "print")
}
