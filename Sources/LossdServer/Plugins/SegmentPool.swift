import LossdEngine
import LossdPluginHost
import LossdTensor

/// Shared memory for the big tensors of one plugin's calls, kept for the next ones. What a process has once seen is
/// given to the same process alone, for another could be looking. Confined to a loop's thread.
final class SegmentPool {
  private struct Entry {
    let segment: SharedSegment
    weak var home: ProcessLink?
    let since: UInt64
  }

  private let bytesMax: Int
  private var free: [Entry] = []
  private var freeBytes = 0
  private var homes: [ObjectIdentifier: Home] = [:]
  private var isClosed = false

  private struct Home {
    weak var link: ProcessLink?
  }

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  func close() {
    isClosed = true
    free.removeAll()
    freeBytes = 0
  }

  /// At least so many bytes, of a process that `isFree` says has nothing to do, or of none.
  func take(
    _ bytes: Int, isInput: Bool, home wanted: ProcessLink?, isFree: (ProcessLink?) -> Bool
  ) throws(StatusError) -> SharedSegment {
    let capacity = SharedSegment.capacity(for: bytes)
    let index = free.lastIndex { entry in
      entry.segment.isInput == isInput && entry.segment.capacity >= capacity
        && entry.segment.capacity <= capacity + capacity / 4
        && (wanted == nil ? isFree(entry.home) : entry.home == nil || entry.home === wanted)
    }
    guard let index else { return try SharedSegment(bytes, isInput: isInput) }
    let entry = free.remove(at: index)
    freeBytes -= entry.segment.capacity
    if let home = entry.home { homes[ObjectIdentifier(entry.segment)] = Home(link: home) }
    return entry.segment
  }

  /// A process is shown it.
  func setHome(_ segment: SharedSegment, _ link: ProcessLink) {
    homes[ObjectIdentifier(segment)] = Home(link: link)
  }

  /// The process that a call has to run in, for the sake of its memory; nil: any.
  func home(of job: EvaluateJob?) -> ProcessLink? {
    guard let job else { return nil }
    for segment in job.sharedSegments {
      if let home = homes[ObjectIdentifier(segment)]?.link { return home }
    }
    return nil
  }

  /// Back from a call that is over.
  func give(_ segment: SharedSegment) {
    let home = homes.removeValue(forKey: ObjectIdentifier(segment))?.link
    if isClosed || segment.capacity > bytesMax { return }
    free.append(Entry(segment: segment, home: home, since: Clock.now))
    freeBytes += segment.capacity
    while freeBytes > bytesMax { freeBytes -= free.removeFirst().segment.capacity }
  }

  /// Frees what nobody has used since `time`.
  func trim(before time: UInt64) {
    free.removeAll { entry in
      guard entry.since < time else { return false }
      freeBytes -= entry.segment.capacity
      return true
    }
  }

  var isEmpty: Bool { free.isEmpty }

  /// A process is no more: what it has seen, nobody sees any longer.
  func forget(_ link: ProcessLink) {
    for (key, home) in homes where home.link === link { homes[key] = nil }
  }
}
