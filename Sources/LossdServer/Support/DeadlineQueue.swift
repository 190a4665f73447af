import LossdEngine
import LossdLoop
import LossdTensor

/// Something that happens at a time unless it is cancelled before; at most once in a queue.
final class DeadlineEntry {
  fileprivate(set) var time: UInt64 = .max
  fileprivate var position = -1
  fileprivate let action: () -> Void

  init(_ action: @escaping () -> Void) { self.action = action }

  var isSet: Bool { position >= 0 }
}

/// The deadlines of a loop: a heap that knows each entry's place, so that a call that ends in time
/// leaves nothing behind, and one timer. Confined to its loop's thread.
final class DeadlineQueue {
  /// For so long, nanoseconds, what is due is done in one turn of the loop.
  private static let fireTime: UInt64 = 1_000_000

  /// It outlives what is made on it.
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

  /// Sets or moves an entry; times are `Clock.now`'s nanoseconds.
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
    // The timer stays armed: an early turn that finds nothing costs less than re-arming each time.
  }

  /// `least`: milliseconds until the timer fires, at least.
  private func arm(least: UInt64 = 0) {
    guard let first = heap.first, first.time < armedTime, let timer else { return }
    armedTime = first.time
    let now = Clock.now
    // Rounded up: firing early would only arm it again.
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
      // Thousands may fall together: those who have something else to do get their turns in
      // between.
      // libuv calls a timer of 0 ms again in the same turn.
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
