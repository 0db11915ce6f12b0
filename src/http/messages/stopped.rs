//! The texts about Pages that stopped, each with its reason, and about permissions that were not given.

use super::catalogue::catalogue;

catalogue! {
    heading_stopped()
        en "Stopped"
        de "Nicht mehr verknüpft"
        fr "Pages qui ne sont plus suivies"
        es "Páginas que ya no se actualizan"
        pt "Páginas que pararam"

    stopped_pages()
        en "These were linked before. Changes on them are not seen any more."
        de "Diese Seiten waren vorher verknüpft. Änderungen an ihnen werden nicht mehr erkannt."
        fr "Ces Pages étaient associées auparavant. Leurs modifications ne sont plus prises en compte."
        es "Estas páginas estaban vinculadas antes. Sus cambios ya no se detectan."
        pt "Estas Páginas estavam vinculadas antes. As alterações nelas não são mais percebidas."

    why_unticked()
        en "you did not choose it this time"
        de "diesmal nicht ausgewählt"
        fr "vous ne l’avez pas choisie cette fois-ci"
        es "no la eligió esta vez"
        pt "você não a escolheu desta vez"

    why_login_ended()
        en "Facebook ended the earlier login"
        de "Facebook hat die frühere Anmeldung beendet"
        fr "Facebook a mis fin à la connexion précédente"
        es "Facebook finalizó el inicio de sesión anterior"
        pt "O Facebook encerrou o login anterior"

    why_checkpoint()
        en "Facebook wants you to confirm something on facebook.com first"
        de "Facebook verlangt zuerst eine Bestätigung von Ihnen auf facebook.com"
        fr "Facebook vous demande d’abord une confirmation sur facebook.com"
        es "Facebook quiere que primero confirme algo en facebook.com"
        pt "O Facebook quer que você confirme algo em facebook.com primeiro"

    why_unconfirmed()
        en "your Facebook account has to be confirmed on facebook.com first"
        de "Ihr Facebook-Konto muss zuerst auf facebook.com bestätigt werden"
        fr "votre compte Facebook doit d’abord être confirmé sur facebook.com"
        es "primero debe confirmar su cuenta de Facebook en facebook.com"
        pt "sua conta do Facebook precisa ser confirmada em facebook.com primeiro"

    why_wrong_person()
        en "it has to be linked by you here"
        de "muss von Ihnen hier verknüpft werden"
        fr "vous devez l’associer ici vous-même"
        es "usted debe vincularla aquí"
        pt "precisa ser vinculada por você aqui"

    why_permission()
        en "something that it needs was not allowed"
        de "eine benötigte Berechtigung wurde nicht erteilt"
        fr "une autorisation nécessaire n’a pas été accordée"
        es "no se concedió un permiso que necesita"
        pt "uma permissão necessária não foi concedida"

    why_role()
        en "you have no role on it any more; somebody who has one can link it"
        de "Sie haben dort keine Rolle mehr; eine Person mit einer Rolle kann sie verknüpfen"
        fr "vous n’y avez plus de rôle\u{a0}; une personne qui en a un peut l’associer"
        es "usted ya no tiene ningún rol en ella; alguien que lo tenga puede vincularla"
        pt "você não tem mais função nela; alguém que tenha pode vinculá-la"

    why_app_removed()
        en "you removed the app on Facebook"
        de "Sie haben die App bei Facebook entfernt"
        fr "vous avez supprimé l’application sur Facebook"
        es "usted eliminó la aplicación en Facebook"
        pt "você removeu o aplicativo no Facebook"

    why_page_gone()
        en "Facebook does not show it any more"
        de "Facebook zeigt sie nicht mehr an"
        fr "Facebook ne la montre plus"
        es "Facebook ya no la muestra"
        pt "O Facebook não a mostra mais"

    why_blocked()
        en "Facebook has closed access to it for this app"
        de "Facebook hat dieser App den Zugriff darauf gesperrt"
        fr "Facebook a fermé à cette application l’accès à cette Page"
        es "Facebook ha cerrado a esta aplicación el acceso a ella"
        pt "O Facebook bloqueou o acesso deste aplicativo a ela"

    heading_not_allowed()
        en "Not allowed"
        de "Nicht erlaubt"
        fr "Autorisations refusées"
        es "Permisos no concedidos"
        pt "Permissões não concedidas"

    not_allowed()
        en "In Facebook's window this was not allowed, so that Pages or their changes may be missing:"
        de "Im Fenster von Facebook wurde Folgendes nicht erlaubt, sodass Seiten oder ihre Änderungen fehlen können:"
        fr "Dans la fenêtre de Facebook, ceci n’a pas été autorisé\u{a0}; des Pages ou leurs modifications peuvent donc \
            manquer\u{a0}:"
        es "En la ventana de Facebook no se permitió lo siguiente, por lo que pueden faltar páginas o sus cambios:"
        pt "Na janela do Facebook, o seguinte não foi permitido; por isso, podem faltar Páginas ou as alterações delas:"

    permission_list()
        en "see the list of your Pages"
        de "die Liste Ihrer Seiten sehen"
        fr "voir la liste de vos Pages"
        es "ver la lista de sus páginas"
        pt "ver a lista das suas Páginas"

    permission_read()
        en "read what your Pages show"
        de "lesen, was Ihre Seiten zeigen"
        fr "lire ce que vos Pages affichent"
        es "leer lo que muestran sus páginas"
        pt "ler o que suas Páginas mostram"

    permission_changes()
        en "hear of changes on your Pages"
        de "von Änderungen an Ihren Seiten erfahren"
        fr "être informé des modifications de vos Pages"
        es "recibir avisos de los cambios en sus páginas"
        pt "receber avisos de alterações nas suas Páginas"

    permission_business()
        en "see Pages that belong to a business portfolio"
        de "Seiten sehen, die zu einem Business-Portfolio gehören"
        fr "voir les Pages qui appartiennent à un portefeuille business"
        es "ver páginas que pertenecen a un portfolio comercial"
        pt "ver Páginas que pertencem a um portfólio empresarial"
}
