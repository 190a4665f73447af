import LossdEngine
import LossdLoop
import Testing

@testable import LossdServer

@Suite struct DeadlineQueueTests {
  @Test("entries fire in the order of their times, however they were set, moved and cancelled")
  func order() throws {
    var numbers = Numbers(seed)
    for _ in 0..<20 {
      let test = try TestLoop()
      defer { test.close() }
      let queue = test.context.deadlines
      // All are due: the loop fires them one after the other.
      let base = Clock.now - 1_000_000_000
      var fired: [Int] = []
      var times: [UInt64?] = Array(repeating: nil, count: 100)
      var entries: [DeadlineEntry] = []
      for index in 0..<100 { entries.append(DeadlineEntry { fired.append(index) }) }
      for _ in 0..<400 {
        let index = Int.random(in: 0..<100, using: &numbers)
        if Int.random(in: 0..<4, using: &numbers) == 0 {
          queue.cancel(entries[index])
          times[index] = nil
        } else {
          let time = base + UInt64.random(in: 0..<1000, using: &numbers)
          queue.set(entries[index], at: time)
          times[index] = time
        }
        #expect(entries[index].isSet == (times[index] != nil))
      }
      let last = DeadlineEntry { test.loop.stop() }
      queue.set(last, at: base + 1000)
      #expect(test.run())
      let expected = times.compactMap { $0 }.sorted()
      #expect(fired.map { times[$0] } == expected, "LOSSD_SEED=\(seed)")
      #expect(Set(fired).count == fired.count && !entries.contains(where: \.isSet))
    }
  }

  @Test("nothing fires before its time")
  func early() throws {
    let test = try TestLoop()
    defer { test.close() }
    let time = Clock.now + 20_000_000
    var fired: UInt64 = 0
    let entry = DeadlineEntry {
      fired = Clock.now
      test.loop.stop()
    }
    test.context.deadlines.set(entry, at: time)
    #expect(test.run())
    #expect(fired >= time)
  }

  @Test("of many that fall together some are done in a turn, so that others get theirs in between")
  func turns() throws {
    let test = try TestLoop()
    defer { test.close() }
    var (turns, fired) = (0, 0)
    let hook = TurnHook(test.loop) { turns += 1 }
    let entries = (0..<128).map { _ in
      DeadlineEntry {
        fired += 1
        let end = Clock.now + 100_000
        while Clock.now < end {}
        if fired == 128 { test.loop.stop() }
      }
    }
    for entry in entries { test.context.deadlines.set(entry, at: 1) }
    #expect(test.run())
    hook.close()
    #expect(fired == 128)
    // A millisecond a turn, looked at every 16 entries: at most 16 entries of 0.1 ms go together.
    #expect(turns >= 128 / 32)
  }

  @Test("the end of time is no deadline, and after the end nothing is set")
  func never() throws {
    let test = try TestLoop()
    let queue = test.context.deadlines
    let (first, second) = (DeadlineEntry {}, DeadlineEntry {})
    queue.set(first, at: .max)
    #expect(!first.isSet)
    queue.set(first, at: Clock.now + 1_000_000_000)
    queue.set(second, at: Clock.now + 1_000_000_000)
    queue.set(first, at: .max)
    #expect(!first.isSet && second.isSet)
    test.close()
    #expect(!second.isSet)
    queue.cancel(second)
  }
}
