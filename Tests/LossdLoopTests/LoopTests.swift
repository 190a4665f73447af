import Glibc
import LossdThreads
import Synchronization
import Testing

@testable import LossdLoop

/// Runs a loop in the test's thread until it is stopped, at most for some seconds; whether it was.
private func run(_ loop: Loop, seconds: UInt64 = 10) -> Bool {
  var isLate = false
  let timer = LoopTimer(loop) {
    isLate = true
    loop.stop()
  }
  timer.start(afterMilliseconds: seconds * 1000)
  loop.keepAlive()
  loop.run()
  timer.close()
  return !isLate
}

private func nanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

private func milliseconds() -> UInt64 { nanoseconds() / 1_000_000 }

@Suite struct LoopTests {
  private final class Seen: Sendable {
    let numbers = Mutex<[Int]>([])
  }

  @Test("work of each thread is done in its order, all of it, on the loop's thread")
  func execute() throws {
    let loop = try Loop()
    let (seen, own) = (Seen(), pthread_self())
    let thread = UInt(own)
    for index in 0..<4 {
      startThread {
        for step in 0..<1000 {
          loop.execute {
            #expect(UInt(pthread_self()) == thread)
            let count = seen.numbers.withLock { numbers in
              numbers.append(index * 1000 + step)
              return numbers.count
            }
            if count == 4000 { loop.stop() }
          }
        }
      }
    }
    #expect(run(loop))
    let numbers = seen.numbers.withLock { $0 }
    for index in 0..<4 {
      #expect(numbers.filter { $0 / 1000 == index } == Array(index * 1000..<(index + 1) * 1000))
    }
  }

  @Test(
    "work that would take long is done over many turns, in its order, what comes meanwhile last")
  func longWork() throws {
    let loop = try Loop()
    // Confined to the loop, which runs in this thread.
    nonisolated(unsafe) var done: [Int] = []
    nonisolated(unsafe) var inTurn = 0
    var mostInTurn = 0
    let hook = TurnHook(loop) {
      mostInTurn = max(mostInTurn, inTurn)
      inTurn = 0
    }
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    defer { for end in ends { close(end) } }
    #expect(write(ends[1], "a", 1) == 1)
    var doneBeforeDescriptor = Int.max
    var watcher: DescriptorWatcher?
    watcher = try DescriptorWatcher(loop, descriptor: ends[0]) { _ in
      doneBeforeDescriptor = done.count
      watcher?.close()
    }
    watcher?.watch(.readable)
    @Sendable func work(_ number: Int) {
      let begin = nanoseconds()
      while nanoseconds() - begin < 20_000 {}
      done.append(number)
      inTurn += 1
      if number == 1500 { for late in 2000..<2010 { loop.execute { work(late) } } }
      if number == 2009 { loop.stop() }
    }
    for number in 0..<2000 { loop.execute { work(number) } }
    #expect(run(loop))
    #expect(done == Array(0..<2010))
    // 1 ms holds 50 of them, and the clock is looked at after every fourth.
    #expect(mostInTurn <= 54)
    #expect(doneBeforeDescriptor <= 108)
    hook.close()
  }

  @Test("work is let go of when it is done, not after all of the work that came with it")
  func lettingGo() throws {
    final class Held: Sendable {}
    let loop = try Loop()
    weak var held: Held?
    do {
      let made = Held()
      held = made
      loop.execute { withExtendedLifetime(made) {} }
    }
    let isHeld = Mutex(true)
    nonisolated(unsafe) let look = { held != nil }
    loop.execute {
      isHeld.withLock { $0 = look() }
      loop.stop()
    }
    #expect(look())
    #expect(run(loop))
    #expect(!isHeld.withLock { $0 })
  }

  @Test("while a loop runs, its own thread may use what is confined to it, and no other")
  func confinement() throws {
    let loop = try Loop()
    #expect(loop.isConfined)
    let (seen, asked, answered) = (Seen(), Semaphore(), Semaphore())
    startThread {
      asked.wait()
      seen.numbers.withLock { $0.append(loop.isConfined ? 1 : 0) }
      answered.signal()
    }
    loop.execute {
      seen.numbers.withLock { $0.append(loop.isConfined ? 1 : 0) }
      asked.signal()
      answered.wait()
      loop.stop()
    }
    #expect(run(loop))
    #expect(seen.numbers.withLock { $0 } == [1, 0])
    #expect(loop.isConfined)
  }

  @Test("a debug build ends where a timer is set on another thread than its loop's")
  func assertion() async {
    await #expect(processExitsWith: .failure) {
      let loop = try Loop()
      // On purpose.
      nonisolated(unsafe) let timer = LoopTimer(loop) {}
      let done = Semaphore()
      loop.execute {
        startThread {
          timer.start(afterMilliseconds: 1)
          done.signal()
        }
        done.wait()
        loop.stop()
      }
      loop.keepAlive()
      loop.run()
    }
  }

  @Test("a timer fires once or again and again, not before its time, and not after it was stopped")
  func timers() throws {
    let loop = try Loop()
    let begin = milliseconds()
    var (once, often, never) = (0, 0, 0)
    let first = LoopTimer(loop) {
      once += 1
      #expect(milliseconds() >= begin + 19)
    }
    first.start(afterMilliseconds: 20)
    let stopped = LoopTimer(loop) { never += 1 }
    stopped.start(afterMilliseconds: 5)
    let second = LoopTimer(loop) {
      often += 1
      if often == 30 { loop.stop() }
    }
    stopped.stop()
    second.start(afterMilliseconds: 1, repeating: 2)
    #expect(run(loop))
    #expect((once, often, never) == (1, 30, 0))
    for timer in [first, second, stopped] { timer.close() }
  }

  @Test("a timer that is closed in its own call is gone, and starts no more")
  func closing() throws {
    let loop = try Loop()
    weak var gone: LoopTimer?
    do {
      var timer: LoopTimer?
      var fired = 0
      timer = LoopTimer(loop) {
        fired += 1
        timer?.close()
        timer?.start(afterMilliseconds: 0)
        timer = nil
      }
      gone = timer
      timer?.start(afterMilliseconds: 1)
      let end = LoopTimer(loop) { loop.stop() }
      end.start(afterMilliseconds: 30)
      #expect(run(loop))
      #expect(fired == 1)
      end.close()
    }
    // libuv tells of the end of a handle in a later turn.
    let end = LoopTimer(loop) { loop.stop() }
    end.start(afterMilliseconds: 10)
    #expect(run(loop))
    end.close()
    #expect(gone == nil)
  }

  @Test("a descriptor is told readable while something lies in it, and not when nobody watches")
  func descriptors() throws {
    let loop = try Loop()
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    defer { for end in ends { close(end) } }
    var told = 0
    var watcher: DescriptorWatcher?
    watcher = try DescriptorWatcher(loop, descriptor: ends[0]) { events in
      #expect(events.contains(.readable))
      told += 1
      var byte: UInt8 = 0
      #expect(read(ends[0], &byte, 1) == 1)
      if told == 2 { watcher?.watch([]) }
    }
    watcher?.watch(.readable)
    #expect(write(ends[1], "abc", 3) == 3)
    let end = LoopTimer(loop) { loop.stop() }
    end.start(afterMilliseconds: 30)
    #expect(run(loop))
    #expect(told == 2)
    watcher?.close()
    end.close()
    var byte: UInt8 = 0
    #expect(read(ends[0], &byte, 1) == 1 && byte == UInt8(ascii: "c"))
  }

  @Test("what is no descriptor that can be watched is an error with a text")
  func wrongDescriptor() throws {
    let loop = try Loop()
    do {
      _ = try DescriptorWatcher(loop, descriptor: 1 << 20) { _ in }
      Issue.record("it is watched")
    } catch { #expect("\(error)".hasPrefix("watch descriptor 1048576: ")) }
  }

  @Test("something that is done at the end of each turn is, and a loop kept turning does not wait")
  func turning() throws {
    let loop = try Loop()
    let keep = KeepTurning(loop)
    var turns = 0
    let hook = TurnHook(loop) {
      turns += 1
      if turns == 1000 { keep.set(false) }
    }
    keep.set(true)
    let end = LoopTimer(loop) { if turns >= 1000 { loop.stop() } }
    end.start(afterMilliseconds: 10, repeating: 10)
    #expect(run(loop))
    // A loop that waits turns a few times in all: by its timers.
    #expect(turns >= 1000 && turns < 1_000_000)
    keep.close()
    hook.close()
    end.close()
  }

  @Test("a signal is a call on the loop's thread")
  func signals() throws {
    let loop = try Loop()
    var told = 0
    let watcher = try SignalWatcher(loop, signal: SIGUSR1) {
      told += 1
      loop.stop()
    }
    let start = LoopTimer(loop) { kill(getpid(), SIGUSR1) }
    start.start(afterMilliseconds: 1)
    #expect(run(loop))
    #expect(told == 1)
    watcher.close()
    start.close()
  }

  @Test("a file that is made in a folder is told; a folder that is not there is an error")
  func folders() throws {
    let loop = try Loop()
    var template = Array("/tmp/lossd-loop-XXXXXX".utf8CString)
    let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
    defer { rmdir(folder) }
    let watcher = try FolderWatcher(loop, folder: folder) { loop.stop() }
    let start = LoopTimer(loop) { close(open("\(folder)/file", O_CREAT | O_WRONLY, 0o600)) }
    start.start(afterMilliseconds: 1)
    #expect(run(loop))
    unlink("\(folder)/file")
    watcher.close()
    start.close()
    #expect(throws: LoopError.self) { try FolderWatcher(loop, folder: "\(folder)/none") {} }
  }
}

@Suite struct BusyPollTests {
  /// Turns of a loop by hand: with a clock that the test sets.
  private final class Bench {
    let loop: Loop
    var time: UInt64 = 1_000_000
    private(set) var poll: BusyPoll?
    private var turns = 0

    init(limit: UInt64) throws {
      loop = try Loop()
      poll = BusyPoll(loop, limit: limit) { [unowned self] in time }
    }

    /// A turn at `time`; whether the loop would look again at once in place of sleeping.
    func turn(at time: UInt64, event: Bool = false, mayLook: Bool = true) -> Bool {
      self.time = time
      if event { poll?.noteEvent() }
      poll?.turnEnded { mayLook }
      return poll?.isLooking ?? false
    }

    func close() { poll?.close() }
  }

  @Test("after two events close together it looks for the limit's time, and then sleeps")
  func looks() throws {
    let bench = try Bench(limit: 20_000)
    defer { bench.close() }
    #expect(!bench.turn(at: 10_000_000, event: true))
    #expect(bench.turn(at: 10_030_000, event: true))
    #expect(bench.turn(at: 10_040_000))
    #expect(bench.turn(at: 10_049_000))
    #expect(!bench.turn(at: 10_050_000))
    #expect(!bench.turn(at: 10_051_000))
  }

  @Test("events far apart, a limit of 0 and processors that others need let it sleep at once")
  func sleeps() throws {
    let bench = try Bench(limit: 20_000)
    defer { bench.close() }
    #expect(!bench.turn(at: 10_000_000, event: true))
    #expect(!bench.turn(at: 10_040_000, event: true))
    #expect(!bench.turn(at: 10_050_000, event: true, mayLook: false))
    #expect(bench.turn(at: 10_060_000, event: true))
    let off = try Bench(limit: 0)
    defer { off.close() }
    #expect(!off.turn(at: 10_000_000, event: true))
    #expect(!off.turn(at: 10_000_001, event: true))
  }

  @Test("a look that took long gives the processor to others for 10 ms")
  func pauses() throws {
    let bench = try Bench(limit: 200_000)
    defer { bench.close() }
    #expect(!bench.turn(at: 10_000_000, event: true))
    #expect(bench.turn(at: 10_010_000, event: true))
    #expect(!bench.turn(at: 10_070_000))
    #expect(!bench.turn(at: 10_080_000, event: true))
    #expect(!bench.turn(at: 20_060_000, event: true))
    #expect(bench.turn(at: 20_080_000, event: true))
  }
}
