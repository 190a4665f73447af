import LossdEngine
import LossdLoop
import LossdTensor

/// An action for a certain time, which does not happen when the entry is cancelled before. An entry
/// stands in a queue at most once.
final class DeadlineEntry {
  fileprivate(set) var time: UInt64 = .max
  fileprivate var position = -1
  fileprivate let action: () -> Void

  init(_ action: @escaping () -> Void) { self.action = action }

  var isSet: Bool { position >= 0 }
}

/// The deadlines of a loop: a heap and one timer. The heap knows each entry's place, so cancelling
/// removes the entry at once and a call that ends in time leaves nothing behind. Confined to its
/// loop's thread.
final class DeadlineQueue {
  /// The time for due actions in one turn of the loop, nanoseconds.
  private static let fireTime: UInt64 = 1_000_000

  /// The loop outlives everything that is made on it.
  private let loop: Unretained<Loop>
  private var heap: [DeadlineEntry] = []
  private var timer: LoopTimer?
  private var armedTime = UInt64.max

  init(_ loop: Loop) {
    self.loop = Unretained(loop)
    timer = LoopTimer(loop) { [unowned self] in fire() }
  }

  func close() {
    timer?.close()
    timer = nil
    for entry in heap { entry.position = -1 }
    heap.removeAll()
  }

  /// Ends a debug build on another thread than the loop's.
  @inline(__always)
  func assertConfined() { assert(loop.with { $0.isConfined }, "used on another thread") }

  /// Adds an entry, or moves it to another time. Times are `Clock.now`'s nanoseconds; `.max`
  /// cancels.
  func set(_ entry: DeadlineEntry, at time: UInt64) {
    assertConfined()
    if time == .max {
      cancel(entry)
      return
    }
    entry.time = time
    if entry.position < 0 {
      entry.position = heap.count
      heap.append(entry)
      siftUp(entry.position)
    } else {
      siftUp(entry.position)
      siftDown(entry.position)
    }
    arm()
  }

  func cancel(_ entry: DeadlineEntry) {
    assertConfined()
    let position = entry.position
    guard position >= 0 else { return }
    entry.position = -1
    let last = heap.removeLast()
    if last !== entry {
      heap[position] = last
      last.position = position
      siftUp(position)
      siftDown(last.position)
    }
    // The timer stays armed: firing once for nothing costs less than arming it anew at every
    // cancel.
  }

  /// `least`: the fewest milliseconds until the timer fires.
  private func arm(least: UInt64 = 0) {
    guard let first = heap.first, first.time < armedTime, let timer else { return }
    armedTime = first.time
    let now = Clock.now
    // Rounded up: a timer that fires early would only be armed again.
    let milliseconds = first.time > now ? (first.time - now + 999_999) / 1_000_000 : 0
    timer.start(afterMilliseconds: max(milliseconds, least))
  }

  private func fire() {
    armedTime = .max
    let now = Clock.now
    var fired = 0
    while let first = heap.first, first.time <= now {
      cancel(first)
      first.action()
      fired += 1
      // Thousands of entries may be due at once, and connections need their turns in between. The
      // rest waits for 1 ms, because libuv calls a timer of 0 ms again in the same turn.
      if fired & 15 == 0 && Clock.now - now > DeadlineQueue.fireTime { return arm(least: 1) }
    }
    arm()
  }

  private func siftUp(_ start: Int) {
    var child = start
    while child > 0 {
      let parent = (child - 1) / 2
      if heap[parent].time <= heap[child].time { return }
      exchange(parent, child)
      child = parent
    }
  }

  private func siftDown(_ start: Int) {
    var parent = start
    while true {
      var child = 2 * parent + 1
      if child >= heap.count { return }
      if child + 1 < heap.count && heap[child + 1].time < heap[child].time { child += 1 }
      if heap[parent].time <= heap[child].time { return }
      exchange(parent, child)
      parent = child
    }
  }

  private func exchange(_ first: Int, _ second: Int) {
    heap.swapAt(first, second)
    heap[first].position = first
    heap[second].position = second
  }
}
