package hub

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/mmrelay/mmrelay/pkg/pseudonym"
)

// Admin serves what the operator decides, on the admin listener:
//
//	GET    /hub/reports        reports of abuse, one JSON object a line
//	DELETE /hub/reports/{id}   the report was dealt with
//	POST   /hub/mute           {"room": "mimi://...", "pseudonym": "mimi://...", "muted": true}
//	POST   /hub/unfreeze       no room of a restored store is behind
func (h *Hub) Admin() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hub/reports", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/jsonl")
		enc := json.NewEncoder(w)
		err := h.Reports(r.Context(), func(rep Report) error {
			return enc.Encode(map[string]any{
				"id": rep.ID, "room": pseudonym.RoomURI(h.cfg.Domain, rep.GroupID), "pseudonym": rep.Sender,
				"accepted_ms": rep.AcceptedMS, "content": rep.Content, "note": rep.Note,
			})
		})
		if err != nil {
			h.log.Warn("reports could not be listed", "err_class", "store")
			http.Error(w, "the list is not complete", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("DELETE /hub/reports/{id}", func(w http.ResponseWriter, r *http.Request) {
		h.done(w, h.DropReport(r.Context(), r.PathValue("id")))
	})
	mux.HandleFunc("POST /hub/mute", func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			Room, Pseudonym string
			Muted           bool
		}
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4096)).Decode(&req); err != nil {
			http.Error(w, "not the JSON object that is expected", http.StatusBadRequest)
			return
		}
		domain, groupID, err := pseudonym.ParseRoomURI(req.Room)
		user, uerr := pseudonym.ParseID(req.Pseudonym)
		if err != nil || domain != h.cfg.Domain || uerr != nil || user.Kind() != pseudonym.User {
			http.Error(w, "not a room of this hub, or not a user pseudonym", http.StatusBadRequest)
			return
		}
		h.done(w, h.Mute(r.Context(), groupID, user, req.Muted))
	})
	mux.HandleFunc("POST /hub/unfreeze", func(w http.ResponseWriter, r *http.Request) {
		h.done(w, h.Unfreeze(r.Context()))
	})
	return mux
}

func (h *Hub) done(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		w.WriteHeader(http.StatusNoContent)
	case errors.Is(err, ErrNoRoom):
		http.Error(w, "no such room", http.StatusNotFound)
	default:
		h.log.Warn("the operator's request did not work", "err_class", "store")
		http.Error(w, "it did not work; see the log", http.StatusInternalServerError)
	}
}
