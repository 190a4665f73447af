import LossdSocket
import LossdTensor
import LossdWire

// Shared memory: regions that the client brings and gives back.
extension Connection {
  /// Regions of one connection at once.
  static let regionsMax = 256

  /// REGION, which came with a descriptor.
  func regionArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    defer { arena.reset() }
    guard let descriptor = descriptors.takeFirst() else {
      throw BadFrame("REGION came without a descriptor")
    }
    let region: RegionMessage
    do throws(StatusError) { region = try RegionMessage(decoding: message, in: arena) } catch {
      throw BadFrame(header, error)
    }
    do throws(StatusError) {
      try add(region, descriptor)
      answer(region.region, nil, releasing: false)
    } catch { answer(region.region, error, releasing: false) }
  }

  private func add(
    _ message: RegionMessage, _ descriptor: borrowing Descriptor
  ) throws(StatusError) {
    if regions[message.region] != nil {
      throw StatusError(.alreadyExists, "region \(message.region) is in use")
    }
    if regions.count >= Connection.regionsMax {
      throw StatusError(
        .resourceExhausted, "\(regions.count) regions are registered, the most there can be")
    }
    regions[message.region] = try SharedRegion(
      message.region, descriptor, length: message.length, account)
  }

  /// RELEASE: answered when no call uses the region any more.
  func releaseArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    defer { arena.reset() }
    let id: UInt64
    do throws(StatusError) { id = try RegionMessage(decoding: message, in: arena).region } catch {
      throw BadFrame(header, error)
    }
    guard let region = regions.removeValue(forKey: id) else {
      return answer(
        id, StatusError(.notFound, "region \(id) is not registered"), releasing: true)
    }
    let bound = LoopBound(WeakConnection(self))
    let loop = context.loop
    region.onFree = {
      loop.execute { bound.value.connection?.answer(id, nil, releasing: true) }
    }
  }

  private func answer(_ region: UInt64, _ error: StatusError?, releasing: Bool) {
    if isClosed { return }
    output.frames.encodeFrame(
      regionResult: RegionResultMessage(
        region: region, status: error.map { StatusMessage($0) } ?? StatusMessage(code: 0)),
      releasing: releasing)
    output.framesAppended()
    wantsFlush()
  }

  /// The region of this number. FAILED_PRECONDITION where there is no shared memory, INVALID_ARGUMENT where there is no
  /// such region.
  func region(_ id: UInt64) throws(StatusError) -> SharedRegion {
    guard decoder.sharedMemory else {
      throw StatusError(
        .failedPrecondition,
        isUnix
          ? "shared memory is not available on this connection: its HELLO did not name the feature shm"
          : "shared memory is not available on this connection: it is no Unix socket")
    }
    guard let region = regions[id] else {
      throw StatusError(.invalidArgument, "region \(id) is not registered")
    }
    return region
  }
}

private struct WeakConnection {
  weak var connection: Connection?
  init(_ connection: Connection) { self.connection = connection }
}
