import LossdEngine
import LossdPluginHost
import LossdTensor

/// Shared memory for the big tensors of one plugin's calls, kept for the next ones. What a process
/// has once seen is given to the same process alone, for another could be looking. Confined to a
/// loop's thread.
final class SegmentPool: SegmentKeeper {
  private struct Entry {
    let segment: SharedSegment
    let since: UInt64
  }

  private let bytesMax: Int
  private var free: [Entry] = []
  private var freeBytes = 0
  private var isClosed = false

  init(bytesMax: Int) { self.bytesMax = bytesMax }

  func close() {
    isClosed = true
    remove { _ in true }
  }

  /// At least so many bytes: of the process `wanted`, else of one that `isFree` says has nothing to
  /// do, else new.
  func take(
    _ bytes: Int, isInput: Bool, home wanted: ProcessLink?, isFree: (ProcessLink) -> Bool
  ) throws(StatusError) -> SharedSegment {
    let capacity = SharedSegment.capacity(for: bytes)
    let index = free.lastIndex { entry in
      let segment = entry.segment
      guard let home = segment.home as? ProcessLink else { return false }
      return segment.isInput == isInput && segment.capacity >= capacity
        && segment.capacity <= capacity + capacity / 4
        && (wanted == nil ? isFree(home) : home === wanted)
    }
    guard let index else { return try SharedSegment(bytes, isInput: isInput) }
    let entry = free.remove(at: index)
    freeBytes -= entry.segment.capacity
    return entry.segment
  }

  /// Back from a call that is over. Returns whether it is kept: one whose process is no more is of
  /// no use.
  func give(_ segment: SharedSegment) -> Bool {
    if isClosed || segment.capacity > bytesMax || segment.home == nil { return false }
    free.append(Entry(segment: segment, since: Clock.now))
    freeBytes += segment.capacity
    var oldest = 0
    while freeBytes > bytesMax {
      freeBytes -= free[oldest].segment.capacity
      oldest += 1
    }
    if oldest > 0 {
      Reaper.shared.free(free[..<oldest].map(\.segment))
      free.removeFirst(oldest)
    }
    return true
  }

  /// Frees what nobody has used since `time`.
  func trim(before time: UInt64) { remove { $0.since < time } }

  var isEmpty: Bool { free.isEmpty }

  /// A process is no more, or is about to end: what it has seen, nobody sees any longer.
  func forget(_ link: ProcessLink) { remove { $0.segment.home === link } }

  /// The reaper frees them: unmapping takes longer than a loop has.
  private func remove(_ isOld: (Entry) -> Bool) {
    var old: [SharedSegment] = []
    free.removeAll { entry in
      guard isOld(entry) else { return false }
      freeBytes -= entry.segment.capacity
      old.append(entry.segment)
      return true
    }
    Reaper.shared.free(old)
  }
}
