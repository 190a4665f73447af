import LossdEngine
import LossdTensor

/// What one request uses of the memory that its client shares: regions, kept until nothing touches
/// them any more; results that go there; inputs that have to be copied first. Confined to its
/// loop's thread.
final class SharedTensors {
  /// A result that goes to a region.
  struct Place {
    /// In the request's list of outputs.
    var position: Int
    var region: SharedRegion
    var offset: Int
    var count: Int

    var base: UnsafeMutableRawPointer { region.base + offset }
  }

  /// An input that a worker copies for a process: one in a region, of which the process may not see
  /// the rest, or a big one elsewhere in memory that no process can be shown.
  struct Copy {
    var input: Int
    var from: UnsafeMutableRawPointer
    var count: Int
  }

  private(set) var regions: [SharedRegion] = []
  var places: [Place] = []
  var copies: [Copy] = []
  /// Memory of copies.
  var buffers: [PayloadBuffer] = []
  /// Memory of copies, for a process, and how much of it they take.
  var segment: PayloadBuffer?
  var segmentBytes = 0

  var isEmpty: Bool { regions.isEmpty && segment == nil && copies.isEmpty }

  func use(_ region: SharedRegion) {
    if !regions.contains(where: { $0 === region }) { regions.append(region) }
  }

  func removeAll() {
    if isEmpty { return }
    places.removeAll()
    copies.removeAll()
    buffers.removeAll()
    segment = nil
    regions.removeAll()
  }
}
